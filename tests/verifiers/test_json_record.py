"""Records compared field by field."""

import time

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verification import check_gold
from rlsd_lightning.verifiers.json_record import JsonRecord

GOLD = '{"item": "lamp", "quantity": 2, "tags": ["a", {"b": null}], "paid": true}'


def problem(gold=GOLD):
    return Problem(id="q7", prompt="", answer=gold, location="train.jsonl:7")


def judge(answer, gold=GOLD, **options):
    return JsonRecord(**options).verify(problem(gold), f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        (GOLD, 1.0),
        ('{"paid": true, "tags": ["a", {"b": null}], "quantity": 2.0, "item": "lamp"}', 1.0),
        (f"```json\n{GOLD}\n```", 1.0),
        ('{"item": "lamps", "quantity": 2, "tags": ["a", {"b": null}], "paid": true}', 3 / 4),
        ('{"item": "lamp", "quantity": "2", "tags": ["a", {"b": null}], "paid": true}', 3 / 4),
        ('{"item": "lamp", "quantity": 2, "tags": ["a", {"b": null}], "paid": 1}', 3 / 4),
        ('{"item": "lamp", "quantity": 2, "tags": [{"b": null}, "a"], "paid": true}', 3 / 4),
        ('{"item": "lamp", "quantity": 2, "tags": ["a", {}], "paid": true}', 3 / 4),
        ('{"item": "lamp", "quantity": 2, "tags": ["a"], "paid": true}', 3 / 4),
        ('{"item": "lamp", "quantity": 2}', 2 / 4),
        ('{"item": "lamp", "quantity": 2, "more": 0, "still": 1}', 2 / 6),  # six names in all
        (GOLD[:-1] + ', "more": null}', 4 / 5),
        ("{}", 0.0),
        ("[2]", 0.0),
        ('"lamp"', 0.0),
        ('{"item": "lamp"', 0.0),
        ('{"item": "lamp", "item": "lamp"}', 0.0),
        ("", 0.0),
    ],
)
def test_fields_are_paid_one_by_one(answer, reward):
    verdict = judge(answer)
    assert verdict.reward == pytest.approx(reward, abs=1e-12)
    assert verdict.correct is (reward == 1.0)
    assert verdict.valid


def test_the_reason_names_what_is_amiss():
    assert judge('{"item": "lamp", "quantity": 3, "colour": "red"}').reason == (
        "wrong: 1 of 5 fields, not 'quantity', 'tags', 'paid', 'colour'"
    )
    assert judge(GOLD).reason == "right: all 4 fields"
    assert "no answer" in judge("").reason


@pytest.mark.parametrize("gold", ["", "{}", "[1]", "lamp"])
def test_a_gold_answer_that_is_no_record_is_not_judged_and_told_before(gold):
    assert not judge(GOLD, gold).valid
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): the answer is"):
        JsonRecord().check([problem(), problem(gold)])


def test_gold_answers_get_full_marks():
    check_gold(JsonRecord(), [problem()], limit=1)
    JsonRecord().check([problem()])


def test_which_answer_counts_is_an_option():
    both = f"<answer>{GOLD}</answer><answer>{{}}</answer>"
    assert not JsonRecord().verify(problem(), both).correct
    assert JsonRecord(which="first").verify(problem(), both).correct
    with pytest.raises(ValueError, match="which is 'middle'"):
        JsonRecord(which="middle")
    with pytest.raises(ValueError, match="sources is"):
        JsonRecord(sources=["tag"])
    assert not JsonRecord(sources=["boxed"]).verify(problem(), both).correct


@pytest.mark.parametrize("piece", ["{", '"', '{"a":', "[", "\\", "<answer>", "1", "\ud800"])
def test_a_megabyte_of_anything_is_judged_soon(piece):
    start = time.perf_counter()
    verdict = judge((piece * 1_000_000)[:1_000_000])
    assert time.perf_counter() - start < 2
    assert not verdict.correct
    assert len(verdict.reason) < 600
