import time

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.ocr import MAX_CHARS, Ocr


def judge(gold, answer, verifier=None, **extra):
    problem = Problem(id="q7", prompt="", answer=gold, extra=extra, location="train.jsonl:7")
    return (verifier or Ocr()).verify(problem, f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("metric", "gold", "answer", "reward"),
    [
        ("wer_similarity", "Hello World", "hello  world", 1),
        ("wer_similarity", "a b c d", "a b x d", 3 / 4),
        ("wer_similarity", "a b c d", "a d", 2 / 4),
        ("wer_similarity", "a b", "a b c", 1 / 2),
        ("wer_similarity", "a", "x y z", 0),  # three edits for one word: not below 0
        ("wer_similarity", "km / h", "km / h", 1),  # nothing is done to one side only
        ("anls", "12345", "12346", 4 / 5),
        ("anls", "ab", "ax", 1 / 2),  # at the threshold
        ("anls", "abc", "axx", 0),  # 1/3 is below it
        ("anls", "STOP now", "stop\n now", 1),
        ("edit_similarity", "abc", "axx", 1 / 3),
        ("edit_similarity", "STOP", "StOP", 3 / 4),
        ("edit_similarity", "a b", "a  b", 3 / 4),
    ],
)
def test_likeness_by_hand(metric, gold, answer, reward):
    verdict = judge(gold, answer, Ocr(metric=metric))
    assert verdict.reward == pytest.approx(reward, abs=1e-12)
    assert verdict.correct is (reward == 1)


def test_the_likest_of_several_references_counts_and_nothing_else():
    assert judge("STOP", "halt", metric="anls", references=["STOP", "halt"]).correct
    shown = '["STOP", "halt"]'
    assert judge(shown, "STOP halt", metric="anls", references=["STOP", "halt"]).reward == 0


def test_a_problems_own_rules_come_first():
    assert judge("abc", "axx", metric="anls", threshold=0.3).reward == pytest.approx(1 / 3)
    assert judge("A b", "a b", case_sensitive=True).reward == 0.5
    assert judge("A b", "a b", metric="edit_similarity", case_sensitive=False).reward == 1


def test_nothing_earns_nothing():
    verdict = judge("a", "")
    assert (verdict.reward, verdict.valid) == (0, True)
    assert not judge("", "").valid
    assert not judge(" \n", "").valid
    assert not judge("a" * (MAX_CHARS + 1), "a").valid


def test_the_longest_answer_is_compared_soon_and_a_longer_one_not_at_all():
    start = time.process_time()
    for metric in ("wer_similarity", "anls"):
        verdict = judge("a " * (MAX_CHARS // 2), "b " * (MAX_CHARS // 2 - 1), metric=metric)
        assert verdict.reward in (0, pytest.approx(0.5, abs=1e-3))
    assert time.process_time() - start < 2
    assert judge("a", "a" * (MAX_CHARS + 1)).reason.startswith("wrong")


@pytest.mark.parametrize(
    "extra",
    [
        *({"metric": "cer"}, {"threshold": 2}, {"threshold": True}, {"case_sensitive": "no"}),
        *({"references": "NYC"}, {"references": []}, {"references": [1]}),
    ],
)
def test_a_fault_in_the_problem_names_problem_and_place(extra):
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra\."):
        judge("42", "42", **extra)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="metric is 'cer', but it must be one of wer_similarity"):
        Ocr(metric="cer")
    with pytest.raises(ValueError, match="threshold is -1"):
        Ocr(threshold=-1)
