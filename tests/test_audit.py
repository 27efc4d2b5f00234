"""The audit, on every verifier that is shipped: gold answers are paid, attacks are not."""

import json

import pyarrow.parquet
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from rlsd_lightning.audit import audit
from rlsd_lightning.config import ConfigError, validate

SCHEMA = "CREATE TABLE emp(name TEXT, pay REAL); INSERT INTO emp VALUES ('Ann', 100), ('Bob', 50);"
ORDER = {
    "type": "object",
    "required": ["item", "count"],
    "properties": {"item": {"type": "string", "minLength": 2}, "count": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}  # fmt: skip
ANIMALS = ["a cat", "a dog", "a cow", "a quite long animal"]
PROBLEMS = {
    "math": [{"answer": r"\frac{1}{2}", "reference": "so it is one half"}, {"answer": "x^2+1"}],
    "numerical": [{"answer": "3.25"}, {"answer": "1,250"}],
    "multiple choice": [{"answer": letter, "options": ANIMALS} for letter in "BC"],
    "boolean": [{"answer": "yes"}, {"answer": "no"}],
    "ocr": [{"answer": "Exit 12 to the left"}],
    "open-ended": [{"answer": "a red dog runs over the street", "problem": "What happens here?"}],
    "text": [{"answer": "New York"}],
    "regex": [{"answer": "AB-1234", "pattern": "[A-Z]{2}-[0-9]{4}"}],
    "json schema": [{"answer": '{"item": "pen", "count": 3}', "schema": ORDER}],
    "spatial grounding": [{"answer": "[110, 120, 310, 420]"}],
    "temporal grounding": [{"answer": '{"time": [35.5, 40]}'}],
    "sql": [{"answer": "SELECT name FROM emp WHERE pay > 70", "schema_and_data": SCHEMA}],
}
OFFICIAL = [kind for kind in PROBLEMS if kind not in ("text", "regex", "json schema", "sql")]


def write(folder, kinds):
    rows = [
        {"id": f"{kind} {number}", "problem": "?", "kind": kind} | row
        for kind in kinds
        for number, row in enumerate(PROBLEMS[kind])
    ]
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(path, *overrides):
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        cfg = compose("config", ["experiment=none", f"data.train.path={path}", *overrides])
    validate(cfg, "audit")
    return cfg


@pytest.mark.parametrize(
    ("verifier", "kinds", "first"),
    [
        ("by_kind", list(PROBLEMS), False),
        pytest.param("weighted_sum", list(PROBLEMS), False, marks=pytest.mark.slow),
        pytest.param("rlsd_official", OFFICIAL, True, marks=pytest.mark.slow),
        ("quickstart", ["numerical"], False),
    ],
)
def test_shipped_verifiers_pay_gold_answers_and_no_attack(tmp_path, capsys, verifier, kinds, first):
    numbers = audit(configured(write(tmp_path, kinds), f"verifier={verifier}"))
    printed = capsys.readouterr().out
    assert numbers["audit/gold_in_full"] == 1
    kept = ("right_then_wrong", "wrong_then_right")
    assert [numbers[f"audit/{rule}/in_full"] for rule in kept] == ([1, 0] if first else [0, 1])
    assert "None of the" in printed, printed


@pytest.mark.slow
def test_workers_find_the_same(tmp_path, capsys):
    path = write(tmp_path, ["multiple choice", "regex"])
    here = audit(configured(path))
    there = audit(configured(path, "verification.workers=2"))
    assert here == there
    first, second = capsys.readouterr().out.split("attack  ")[1:]
    assert first == second


def test_only_the_first_problems_are_tried(tmp_path):
    path = write(tmp_path, ["sql", "boolean"])
    numbers = audit(configured(path, "audit_problems=1"))
    assert "audit/no_rows/in_full" in numbers
    assert numbers["audit/always_yes/in_full"] == 0
    with pytest.raises(ValueError, match="audit_problems is 0"):
        audit(configured(path, "audit_problems=0"))


def test_a_stream_is_read_as_far_as_needed(tmp_path):
    path = tmp_path / "train.parquet"
    rows = [{"problem": "?", "answer": answer, "kind": "boolean"} for answer in ("yes", "no", "no")]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    streaming = "data.train._target_=rlsd_lightning.data.StreamingProblems"
    numbers = audit(configured(path, streaming, "audit_problems=2"))
    assert numbers["audit/always_yes/in_full"] == 0.5


def test_data_must_be_named_and_no_model(tmp_path):
    assert OmegaConf.is_missing(configured(write(tmp_path, ["text"])).model, "path")
    with pytest.raises(ConfigError, match=r"data\.train\.path has no value yet"):
        configured("'???'")


def test_problems_that_the_verifier_cannot_judge_are_told_first(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"id": "1", "problem": "?", "answer": "4", "kind": "astrology"}))
    with pytest.raises(ValueError, match="no verifier for the kind 'astrology'"):
        audit(configured(path))
