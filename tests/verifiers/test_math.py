"""What Math-Verify gets wrong or hangs on when it is left alone, and what it gets right when asked properly."""

import random
import threading
import time

import pytest
from sympy.core.cache import cacheit

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.math import Math

MATH = Math()


def judge(gold, answer, verifier=MATH):
    problem = Problem(id="1", prompt="", answer=gold)
    return verifier.verify(problem, f"<thought>t</thought>\n<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        # bare LaTeX is compared as a whole, not by its last number
        ("2-3i", "2+3i", False),
        ("1,2,3", "1,2,4", False),
        ("y=2x+1", "y=2x-1", False),
        (r"\pm 2", "2", False),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        ("x+y", "y+x", True),
        # percent
        (r"28\%", "28", True),
        ("28", r"28\%", True),
        ("0.28", r"28\%", True),
        (r"$28\%$", "0.28", True),
        (r"\frac{7}{25}", "28 percent", True),
        (r"\frac{1}{2}\%", "0.005", True),
        ("0.28", "28", False),
        ("28%", "29%", False),
        # plain numbers
        ("0.0000002", "0.0000001", False),
        ("100000", "1e5", True),
        ("0.333333", "0.3333333", True),
        ("1000001", "1000000", False),
        ("1000.99", "1000,99", True),
        ("0.111", "0,111", True),
        (r"\frac{1}{3}", "0.333333", True),
        (r"\frac{2}{3}", "0.67", False),
        # no hedging
        ("1728", "1331 and 1728", False),
        ("6", "5 or 6", False),
        ("6", "$5$ or $6$", False),
        ("6", r"\boxed{5} or \boxed{6}", False),
        ("6", "either 5 or 6", False),
        # no fragments: the last number of what cannot be parsed is no answer
        (r"\frac{1}{2}", r"$\sum_{k}\bigl(0.5\bigr)$", False),
        (r"\frac{1}{2}", r"0.5}{\ln", False),
        (r"\frac{1}{2}", r"x\boxed{0.5", False),
        # set against interval, order of tuples
        ("(1,2)", "(2,1)", False),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"x \in (1,2)", "(1,2)", True),
        ("12:00", "12:00", True),
    ],
)
def test_verdicts(gold, answer, correct):
    assert judge(gold, answer).correct is correct


def test_the_last_box_counts_where_there_is_no_tag():
    problem = Problem(id="1", prompt="", answer="5")
    assert MATH.verify(problem, r"\boxed{3}, but that forgets a case; so \boxed{5}").correct
    assert not MATH.verify(problem, r"\boxed{5}, no: \boxed{3}").correct
    assert not MATH.verify(problem, "5").correct
    assert not MATH.verify(problem, "<thought>t</thought>5</answer>").correct


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "9^{9^{9^{9}}}",
            "9**9**9**9",
            "99999999!",
            r"\binom{10^{9}}{5\cdot 10^{8}}",
            "e^{e^{e^{e^{e}}}}",
        ),
        *(
            "[9^{9^{9}},10]",
            r"\{9^{9^{9}},2\}",
            "the answer is 9**9**9**9",
            "the answer is $9^{9^{9}}$",
        ),
        *(
            "(" * 60 + "1" + ")" * 60,
            "{" * 60 + "1" + "}" * 60,
            "1" * 5_000,
            "$" * 400,
            "\\frac{1}{" * 20 + "2" + "}" * 20,
        ),
    ],
)
def test_monsters_are_wrong_at_once(answer):
    start = time.perf_counter()
    verdict = judge("7", answer)
    assert time.perf_counter() - start < 2
    assert verdict.valid
    assert not verdict.correct


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("7", r"\int_0^1 \frac{\ln(1+x)}{1+x^2}dx"),
        ("x^2+1", "(x+1)^{9999}"),
        (
            r"\frac{1}{x}+\frac{1}{x+1}=y",
            r"\frac{1}{x}+\frac{1}{x+1}+\frac{1}{x+2}+\frac{1}{x+3}=y",
        ),
    ],
)
def test_what_takes_too_long_is_not_judged(gold, answer):
    start = time.perf_counter()
    verdict = judge(gold, answer, Math(time_limit_s=0.5))
    assert time.perf_counter() - start < 3
    assert not verdict.valid
    assert verdict.reward == 0
    assert "took longer than 0.5 s" in verdict.reason
    assert judge("7", "7").correct  # nothing is left behind


def test_the_same_monster_as_the_gold_answer_is_right_without_being_worked_out():
    assert judge("9^{9^{9}}", "9^{9^{9}}").correct


@pytest.mark.parametrize(
    "gold", ["9^{9^{9}}", r"\sum_{k}\bigl(k\bigr)", "a" * 600, "x" * 5_000, ""]
)
def test_a_gold_answer_that_cannot_be_worked_out_is_not_judged(gold):
    verdict = judge(gold, "7")
    assert not verdict.valid
    assert not verdict.correct


def test_a_long_answer_is_wrong_unread_whatever_it_ends_with():
    assert judge("7", "blah " * 100 + "$7$").correct
    assert not judge("7", "blah " * 1_000 + "$7$").correct


def test_sympy_starts_afresh_for_each_verdict():
    calls = []

    @cacheit
    def remembered(argument):
        calls.append(argument)
        return argument

    for _ in range(2):
        remembered(1)
        judge("x^2", "x*x")
    assert calls == [1, 1]


def test_it_works_off_the_main_thread():
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(judge(r"\frac{1}{2}", "0.5")))
    thread.start()
    thread.join(timeout=20)
    assert verdicts[0].correct


def test_garbage_is_wrong_and_a_verdict_does_not_depend_on_what_came_before():
    pieces = [
        *(
            "1",
            "2",
            "x",
            "\\pi",
            "e",
            "+",
            "^{",
            "}",
            "{",
            "(",
            ")",
            "[",
            "\\frac{",
            "}{",
            "\\sqrt{",
            "\\sin ",
            "!",
            "_",
        ),
        *(
            "=",
            "<",
            "\\in ",
            ",",
            " and ",
            "\\text{",
            "\\int",
            "\\sum",
            "|",
            "%",
            "$",
            "\\pm ",
            "\\infty",
            "\\boxed{",
            "\0",
        ),
    ]
    draw = random.Random(1)
    answers = ["".join(draw.choices(pieces, k=draw.randint(1, 20))) for _ in range(150)]
    verifier = Math(time_limit_s=1)
    verdicts = [judge("8", answer, verifier) for answer in answers]
    again = [judge("8", answer, verifier) for answer in reversed(answers)]
    assert verdicts == again[::-1]
    assert not any(verdict.correct for verdict in verdicts)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="time_limit_s is 0"):
        Math(time_limit_s=0)
    with pytest.raises(ValueError, match="max_chars is 0"):
        Math(max_chars=0)
