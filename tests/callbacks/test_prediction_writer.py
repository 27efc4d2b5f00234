"""One line per completion, with its verdict; one file per evaluation and rank."""

import json
from types import SimpleNamespace

import pytest

from rlsd_lightning.callbacks.prediction_writer import PredictionWriter
from rlsd_lightning.types import Completion, Problem
from tests.helpers.fakes import ScriptedVerifier

MODULE = SimpleNamespace(evaluations={"held_out": None, "hard": None})


def completion(text, finish_reason="stop"):
    return Completion(
        token_ids=[5, 6], logprobs=[-1.0, -2.0], text=text, finish_reason=finish_reason
    )


def problem(problem_id):
    return Problem(problem_id, "1+1", answer="2", location=f"test.jsonl:{problem_id}")


def judge(asked, response):
    return None if response == "?" else float(response == asked.answer)


@pytest.fixture
def writer(tmp_path):
    return PredictionWriter(str(tmp_path / "out"), ScriptedVerifier(judge))


def write(writer, outputs, dataloader_idx=0, rank=0):
    trainer = SimpleNamespace(global_rank=rank)
    writer.on_predict_batch_end(trainer, MODULE, outputs, None, 0, dataloader_idx)


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_holds_problem_completion_and_verdict(writer, tmp_path):
    write(writer, [(problem("1"), [completion("2")])])
    assert rows(tmp_path / "out" / "held_out.jsonl") == [
        {
            "problem_id": "1",
            "location": "test.jsonl:1",
            "prompt": "1+1",
            "answer": "2",
            "response": "2",
            "finish_reason": "stop",
            "num_tokens": 2,
            "reward": 1.0,
            "correct": True,
            "valid": True,
            "parts": {"scripted": 1.0},
            "reason": "scripted",
        }
    ]


def test_every_completion_of_every_batch_has_a_line_in_order(writer, tmp_path):
    write(
        writer,
        [
            (problem("1"), [completion("2"), completion("3", "length")]),
            (problem("2"), [completion("?")]),
        ],
    )
    write(writer, [(problem("3"), [completion("2")])])
    found = rows(tmp_path / "out" / "held_out.jsonl")
    assert [(r["problem_id"], r["response"], r["finish_reason"]) for r in found] == [
        ("1", "2", "stop"),
        ("1", "3", "length"),
        ("2", "?", "stop"),
        ("3", "2", "stop"),
    ]
    assert [(r["reward"], r["correct"], r["valid"]) for r in found] == [
        (1.0, True, True),
        (0.0, False, True),
        (0.0, False, False),
        (1.0, True, True),
    ]


def test_evaluations_and_ranks_have_files_of_their_own(writer, tmp_path):
    write(writer, [(problem("1"), [completion("2")])], dataloader_idx=0)
    write(writer, [(problem("2"), [completion("2")])], dataloader_idx=1)
    write(writer, [(problem("3"), [completion("2")])], dataloader_idx=1, rank=2)
    found = {path.name: rows(path)[0]["problem_id"] for path in (tmp_path / "out").iterdir()}
    assert found == {"held_out.jsonl": "1", "hard.jsonl": "2", "hard.rank2.jsonl": "3"}


def test_an_earlier_prediction_is_replaced(writer, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "held_out.jsonl").write_text('{"problem_id": "old"}\n')
    write(writer, [(problem("1"), [completion("2")])])
    assert [row["problem_id"] for row in rows(tmp_path / "out" / "held_out.jsonl")] == ["1"]


def test_line_breaks_and_other_scripts_stay_in_their_line(writer, tmp_path):
    text = "first\nsecond \u2028 \u4e8c"
    write(writer, [(problem("1"), [completion(text)])])
    content = (tmp_path / "out" / "held_out.jsonl").read_text(encoding="utf-8")
    assert content.count("\n") == 1
    assert json.loads(content)["response"] == text
    assert "\u4e8c" in content  # readable, not escaped
