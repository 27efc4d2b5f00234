"""The commands `test` and `score` as a user runs them: kept responses, one table, nothing sampled twice."""

import json

SETTINGS = ("--config-dir=my_conf", "verifier=spread", "prepare=none")


def lines(path):
    return path.read_text().splitlines()


def test_a_test_that_was_stopped_goes_on_without_sampling_twice(workplace, rlsd, straight):
    def test(output, *words):
        done = rlsd(
            "test",
            *SETTINGS,
            "rollout.sampling.max_completion_tokens=10",
            *words,
            f"paths.output={output}",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    whole = test("whole")
    assert "held_out" in whole
    assert "score, %" in whole
    made = lines(workplace / "whole" / "held_out.jsonl")
    assert len(made) == 4 * 4

    test("stopped", "evaluators.held_out.problems.limit=2")
    stopped = workplace / "stopped" / "held_out.jsonl"
    first = [json.loads(line) for line in lines(stopped)]
    stopped.write_text(stopped.read_text()[:-20])  # killed while it wrote
    test("stopped")
    again = [json.loads(line) for line in lines(stopped)]
    assert len(again) == 16
    assert again[:4] == first[:4]  # seconds included: these were not sampled anew

    def texts(rows):
        return sorted((row["id"], row["sample"], row["response"]) for row in rows)

    assert texts(again) == texts(map(json.loads, made))


def test_responses_are_scored_without_a_model(workplace, rlsd, straight):
    done = rlsd(
        "test", *SETTINGS, "rollout.sampling.max_completion_tokens=10", "paths.output=tested"
    )
    assert done.returncode == 0, done.stderr
    scored = rlsd("score", *SETTINGS, "model.path=nowhere", "responses=tested/held_out.jsonl")
    assert scored.returncode == 0, scored.stderr
    wanted = json.loads((workplace / "tested" / "scores.json").read_text())["scores"]
    found = json.loads((workplace / "tested" / "held_out.scores" / "scores.json").read_text())
    assert found["scores"] == wanted
    assert found["about"] == {"source": "tested/held_out.jsonl"}


def test_two_ranks_leave_what_one_leaves(workplace, rlsd, straight):
    settings = (*SETTINGS, "rollout.sampling.max_completion_tokens=10")
    settings = (*settings, "evaluators.held_out.problems.limit=3")  # one rank's last is fill
    for output, ranks in {"one": (), "two": ("trainer.devices=2", "trainer.strategy=ddp")}.items():
        done = rlsd("test", *settings, *ranks, f"paths.output={output}_rank")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("score, %") == 1
    rows = [
        sorted(
            (row["id"], row["sample"], row["response"])
            for row in map(json.loads, lines(workplace / f"{ranks}_rank" / "held_out.jsonl"))
        )
        for ranks in ("one", "two")
    ]
    assert len(rows[0]) == 12
    assert rows[0] == rows[1]
    assert not list((workplace / "two_rank").glob("*.rank1.jsonl"))
