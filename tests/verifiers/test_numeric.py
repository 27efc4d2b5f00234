import math

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.numeric import Numeric, Tolerance


def judge(verifier, gold, answer, **extra):
    problem = Problem(id="q7", prompt="", answer=gold, extra=extra, location="train.jsonl:7")
    return verifier.verify(problem, f"<answer>{answer}</answer>")


@pytest.mark.parametrize("rel", [0, 0.05, 1e-6])
@pytest.mark.parametrize("absolute", [0, 0.5])
def test_tolerance_is_that_of_math_isclose(rel, absolute):
    for got in [100, 105, 105.3, 95, 94.9, -100, 100.5, 0]:
        wanted = math.isclose(got, 100, rel_tol=rel, abs_tol=absolute)
        assert judge(Numeric(rel_tol=rel, abs_tol=absolute), "100", str(got)).correct is wanted


def test_relative_to_the_reference():
    # 105.2 is 5.2 % above 100, but 100 is 4.94 % below 105.2
    assert judge(Numeric(rel_tol=0.05), "100", "105.2").correct
    assert not judge(Numeric(rel_tol=0.05, relative_to="reference"), "100", "105.2").correct
    assert judge(Numeric(rel_tol=0.05, relative_to="reference"), "100", "105").correct


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("3.14159", "3.14", True),
        ("3.14", "3.15", False),
        ("0.001", "0.004", True),
        ("1,000", "1000.00", True),
        ("50", "50%", False),
        ("0.5", "50%", False),
        ("5", "5 cm", False),
        ("1e999", "1e999", False),
    ],
)
def test_rounding_is_a_rule_of_its_own(gold, answer, correct):
    verifier = Numeric(rounded_to=2, abs_tol=9, units=["cm"])
    assert judge(verifier, gold, answer).correct is correct
    assert judge(Numeric(units=["cm"]), gold, answer, mode="rlsd_round2").correct is correct


@pytest.mark.parametrize("decimals", [-1, 16, True, 0.5, "2"])
def test_rounding_is_checked(decimals):
    with pytest.raises(ValueError, match="rounded_to is"):
        Numeric(rounded_to=decimals)


def test_a_problems_own_tolerance_comes_first():
    assert judge(Numeric(), "100", "101", tolerance={"abs": 1}).correct
    assert not judge(Numeric(abs_tol=5), "100", "101", tolerance={"abs": 0}).correct
    assert not judge(Numeric(rel_tol=0.05), "100", "105.2", relative_to="reference").correct


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("28%", "28", True),
        ("28%", "0.28", True),
        ("0.28", "28%", True),
        ("28", "28%", True),
        ("28%", "28%", True),
        ("0.28%", "28%", False),
        ("0.28", "28", False),
        ("28", "0.28", False),
    ],
)
def test_percent(gold, answer, correct):
    assert judge(Numeric(), gold, answer).correct is correct


def test_units_are_dropped_where_allowed_and_must_not_contradict():
    verifier = Numeric(units=["cm", "m"])
    assert judge(verifier, "5 cm", "5").correct
    assert judge(verifier, "5", "5 cm").correct
    assert judge(verifier, "5 cm", "5 cm").correct
    assert not judge(verifier, "5 cm", "5 m").correct
    assert not judge(Numeric(), "5", "5 cm").correct
    assert judge(Numeric(), "5", "5 kg", unit="kg").correct
    assert judge(Numeric(), "5", "$5", unit=["$", "USD"]).correct


@pytest.mark.parametrize("answer", ["nan", "inf", "1e999", "-inf"])
@pytest.mark.parametrize("gold", ["nan", "inf", "1e999", "42"])
def test_what_is_not_finite_is_never_right(gold, answer):
    verdict = judge(Numeric(rel_tol=1.0, words=False), gold, answer)
    assert not verdict.correct
    assert verdict.valid is (gold == "42")


def test_words_only_where_the_gold_answer_is_no_number():
    assert judge(Numeric(words=True), "Blue", " blue. ").correct
    assert judge(Numeric(), "Blue", "blue", mode="relaxed").correct
    assert not judge(Numeric(words=True), "42", "forty-two").correct
    assert not judge(Numeric(), "Blue", "blue").valid


@pytest.mark.parametrize(
    "extra",
    [
        {"tolerance": 0.1},
        {"tolerance": {"rel": "0.1"}},
        {"tolerance": {"rel": -1}},
        {"tolerance": {"abs": float("nan")}},
        {"tolerance": {"abs": True}},
        {"tolerance": {"relative": 0.1}},
        {"relative_to": "gold"},
        {"mode": "strict"},
    ],
)
def test_a_fault_in_the_problem_names_problem_and_place(extra):
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra\."):
        judge(Numeric(), "42", "42", **extra)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="rel is -1"):
        Numeric(rel_tol=-1)
    with pytest.raises(ValueError, match="units is 'cm'"):
        Numeric(units="cm")
    with pytest.raises(ValueError, match="relative_to is 'gold'"):
        Tolerance(relative_to="gold")


def test_the_quickstarts_verifier_wants_the_tag():
    verifier = Numeric(sources=["answer"])
    problem = Problem(id="1", prompt="", answer="4")
    chain = "<thought>green2 yellow2 red0 2+2=4 4+0=4</thought>"
    assert verifier.verify(problem, chain + "<answer>4</answer>").reward == 1
    assert verifier.verify(problem, chain + "<answer>5</answer>").reward == 0
    for response in [
        chain,
        "4",
        chain + "4",
        chain + "<answer>4",
        r"\boxed{4}",
        chain + "<answer></answer>",
    ]:
        assert verifier.verify(problem, response).reward == 0
