import math

import pytest

from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import check_gold, verdict_metrics, verify_batch


class Echo:
    """Says of a response what its text says: a number is its reward; correct from 1 on."""

    def verify(self, problem, response):
        return Verdict(
            reward=float(response), correct=float(response) >= 1, reason=f"got {response}"
        )


class Gold:
    """Right if the gold answer stands in the answer tag; problems answered "refused" are refused."""

    def verify(self, problem, response):
        if problem.answer == "faulty":
            raise ValueError("extra.tolerance is -1")
        if problem.answer == "unreadable":
            return Verdict(0.0, False, valid=False, reason="not judged: it cannot be read")
        correct = response == f"<thought></thought><answer>{problem.answer}</answer>"
        correct = correct and problem.answer != "refused"
        return Verdict(reward=float(correct), correct=correct, reason="it was refused")


class Returning:
    """Returns, or raises, what it was given."""

    def __init__(self, outcome):
        self.outcome = outcome

    def verify(self, problem, response):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def problems(*answers):
    return [
        Problem(id=f"q{i}", prompt="", answer=answer, location=f"train.jsonl:{i}")
        for i, answer in enumerate(answers)
    ]


def test_one_verdict_per_response_in_order():
    verdicts = verify_batch(Echo(), problems("", "", ""), ["3", "1", "2"])
    assert [verdict.reward for verdict in verdicts] == [3, 1, 2]
    assert verify_batch(Echo(), [], []) == []


def test_as_many_problems_as_responses():
    with pytest.raises(ValueError, match="got 1 problems and 2 responses"):
        verify_batch(Echo(), problems(""), ["1", "2"])


def test_a_verifiers_bug_stops_the_run_and_is_found():
    with pytest.raises(
        RuntimeError, match=r"Returning on problem 'q0' \(train.jsonl:0\) raised KeyError: 'x'"
    ):
        verify_batch(Returning(KeyError("x")), problems(""), ["1"])


def test_a_fault_in_a_problem_is_a_value_error_that_names_it_once():
    with pytest.raises(ValueError, match=r"Returning: problem 'q0' \(train.jsonl:0\): bad options"):
        verify_batch(Returning(ValueError("bad options")), problems(""), ["1"])
    named = ValueError("problem 'q0' (train.jsonl:0): bad options")
    with pytest.raises(ValueError, match="bad options") as error:
        verify_batch(Returning(named), problems(""), ["1"])
    assert str(error.value).count("q0") == 1


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        1.0,
        (1.0, True),
        *(Verdict(reward, False) for reward in (math.nan, math.inf, None, "1")),
    ],
)
def test_only_a_verdict_with_a_finite_reward_will_do(outcome):
    with pytest.raises(RuntimeError, match=r"problem 'q0' .*returned .*finite reward is needed"):
        verify_batch(Returning(outcome), problems(""), ["1"])


def test_metrics_by_hand():
    verdicts = [
        Verdict(0.9, True, parts={"answer": 1.0, "format": 0.0}),
        Verdict(0.1, False, parts={"answer": 0.0, "format": 1.0}),
        Verdict(0.5, False, parts={"answer": 0.5}),
        Verdict(0.0, False, valid=False, parts={"answer": 0.0, "format": 1.0, "extra": 1.0}),
    ]
    metrics = verdict_metrics(verdicts)
    assert {name: (mean.total, mean.count) for name, mean in metrics.items()} == {
        "rollout/reward_mean": (pytest.approx(1.5), 3),  # 0.9 + 0.1 + 0.5
        "rollout/accuracy": (1, 3),
        "rollout/invalid_fraction": (1, 4),
        "rollout/part_answer": (1.5, 3),
        "rollout/part_extra": (0, 0),  # named, so that every rank reports the same names
        "rollout/part_format": (1.0, 2),
    }


def test_metrics_of_nothing_are_zero():
    assert {float(mean) for mean in verdict_metrics([]).values()} == {0.0}


def test_gold_answers_that_are_accepted_pass():
    check_gold(Gold(), problems("4", "5"), limit=64)
    check_gold(Gold(), [], limit=64)


def test_refused_gold_answers_are_listed_with_place_and_reason():
    data = problems("4", *["refused"] * 12, "faulty")
    with pytest.raises(ValueError, match="Gold refuses 12 of the first 14 gold answers") as error:
        check_gold(Gold(), data, limit=64)
    for number in range(1, 13):
        assert f"\n  problem 'q{number}' (train.jsonl:{number}): it was refused\n" in str(
            error.value
        )


def test_of_very_many_refused_gold_answers_the_first_are_listed():
    with pytest.raises(ValueError, match="refuses 130 of the first 130") as error:
        check_gold(Gold(), problems(*["refused"] * 130), limit=200)
    assert "'q99' (train.jsonl:99): it was refused\n  and 30 more\n" in str(error.value)
    assert "q100" not in str(error.value)


def test_problems_that_cannot_be_judged_are_listed_apart():
    """A fault in the problem, and a gold answer of which nothing can be said."""
    with pytest.raises(ValueError, match="Gold refuses 1 of") as error:
        check_gold(Gold(), problems("4", "faulty", "unreadable", "refused"), limit=64)
    assert str(error.value).splitlines() == [
        "verifier: Gold refuses 1 of the first 4 gold answers, so that no completion could ever be right, or be paid in full:",
        "  problem 'q3' (train.jsonl:3): it was refused",
        "verifier: Gold cannot judge 2 of the first 4 gold answers:",
        "  problem 'q1' (train.jsonl:1): extra.tolerance is -1",
        "  problem 'q2' (train.jsonl:2): not judged: it cannot be read",
        "Correct these answers, choose another verifier, or set verify_gold_problems=0.",
    ]


def test_only_so_many_gold_answers_are_checked():
    check_gold(Gold(), problems("4", "refused"), limit=1)
    check_gold(Gold(), problems("refused"), limit=0)


def test_a_verifiers_bug_is_no_refusal():
    with pytest.raises(RuntimeError, match="KeyError"):
        check_gold(Returning(KeyError("x")), problems("4"), limit=1)


def test_a_gold_answer_that_is_right_but_not_paid_in_full_is_refused():
    class Stingy:
        def verify(self, problem, response):
            return Verdict(reward=0.7, correct=True, parts={"answer": 1.0, "format": 0.0})

    problem = Problem(id="1", prompt="", answer="4", location="train.jsonl:3")
    with pytest.raises(ValueError, match=r"right, but paid 0\.7 \(answer 1, format 0\)"):
        check_gold(Stingy(), [problem], limit=1)
