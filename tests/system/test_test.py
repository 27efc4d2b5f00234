"""The commands `test` and `score` as a user runs them: kept responses, one table, nothing sampled twice."""

import json

import pytest
import torch

from tests.helpers.workplace import SMALL, write_wemath

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_training_keeps_the_checkpoint_that_a_benchmark_scores_best(workplace, rlsd, straight):
    write_wemath(workplace / "wemath")
    path = "evaluators.wemath.problems.path=wemath/testmini.jsonl"
    local = (path, "benchmark_sampling.max_completion_tokens=8")
    done = rlsd(
        "fit",
        *(
            word
            for word in SMALL
            if not word.startswith(("trainer.val_check", "trainer.max_steps"))
        ),
        "evaluators=wemath",
        *local,
        "trainer.max_steps=2",
        "trainer.val_check_interval=1",
        "exp_manager.name=kept_by_score",
        "callbacks=keep_best",
        "callbacks.keep_best.monitor=val/wemath/num_responses",  # equal every time: the first stays the best
    )
    assert done.returncode == 0, done.stderr
    run = workplace / "runs" / "kept_by_score" / "version_0"
    scores = json.loads((run / "summary.json").read_text())["final"]
    assert 0 <= scores["val/wemath/score_strict"] <= 1
    assert scores["val/wemath/none/num_responses"] == 3
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=False)
    assert best["global_step"] == 1
    done = rlsd(
        "test", *SETTINGS, "evaluators=wemath", *local, f"checkpoint={run}/checkpoints/best.ckpt"
    )
    assert done.returncode == 0, done.stderr
    assert "wemath" in done.stdout
    assert (run / "test" / "step_1" / "wemath.audit.jsonl").exists()
