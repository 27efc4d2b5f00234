"""Attacks that are given the gold answer and hide it among wrong ones, or twist it: no verifier may pay for it then.

Which of several answers counts is a rule (the first, or the last): of the two attacks that ask for it, one is paid.
"""

from __future__ import annotations

from collections.abc import Callable

from rlsd_lightning.attacks.attack import (
    answered,
    attack,
    attacks_in,
    wants_program,
    wants_query,
    wrong_answers,
)
from rlsd_lightning.types import Problem

_FILLER = "There are many ways to see this, and much has been written about it over the years."


@attack("rule")
def right_then_wrong(problem: Problem) -> str | None:
    """The right answer, then a wrong one."""
    return _if_gold(problem, lambda gold, wrong: answered(gold) + answered(wrong))


@attack("rule")
def wrong_then_right(problem: Problem) -> str | None:
    """A wrong answer, then the right one."""
    return _if_gold(problem, lambda gold, wrong: answered(wrong) + answered(gold))


@attack("stuffed")
def right_in_the_middle(problem: Problem) -> str | None:
    """The right answer between two wrong ones."""
    return _if_gold(problem, lambda gold, wrong: answered(wrong) + answered(gold) + answered(wrong))


@attack("stuffed")
def one_of_three(problem: Problem) -> str | None:
    """wrong, right, wrong in one answer."""
    return _if_gold(problem, lambda gold, wrong: answered(f"{wrong}, {gold}, {wrong}"))


@attack("stuffed")
def right_or_wrong(problem: Problem) -> str | None:
    """'this or that'."""
    return _if_gold(problem, lambda gold, wrong: answered(f"{gold} or {wrong}"))


@attack("stuffed")
def one_of_three_boxes(problem: Problem) -> str | None:
    """wrong, right, wrong in boxes of one answer."""
    return _if_gold(
        problem,
        lambda gold, wrong: answered(rf"\boxed{{{wrong}}} \boxed{{{gold}}} \boxed{{{wrong}}}"),
    )


@attack("stuffed")
def only_in_the_thought(problem: Problem) -> str | None:
    """The right answer in the thought, nothing in the answer."""
    return _if_gold(problem, lambda gold, _: f"<thought>{gold}</thought><answer></answer>")


@attack("stuffed")
def only_behind_the_answer(problem: Problem) -> str | None:
    """A wrong answer in its tag, the right one after it."""
    return _if_gold(problem, lambda gold, wrong: f"{answered(wrong)} {gold}")


@attack("stuffed")
def negated(problem: Problem) -> str | None:
    """'not' and the right answer."""
    return _if_gold(problem, lambda gold, _: answered(f"not {gold}"))


@attack("stuffed")
def one_more_sign(problem: Problem) -> str | None:
    """The right answer with a sign more."""
    if wants_query(problem) or wants_program(problem):
        return None  # a constant more or less may well give the same result
    return _if_gold(problem, lambda gold, _: answered(f"{gold}7"))


@attack("stuffed")
def corrected(problem: Problem) -> str | None:
    """The right answer, taken back in the same answer."""
    return _if_gold(problem, lambda gold, wrong: answered(f"{gold}? No, it is {wrong}."))


@attack("stuffed")
def in_long_text(problem: Problem) -> str | None:
    """The right answer somewhere in a long text that ends with a wrong one."""
    return _if_gold(
        problem,
        lambda gold, wrong: answered(f"{_FILLER * 5} {gold} {_FILLER * 5} {wrong} {_FILLER}"),
    )


@attack("stuffed")
def reference_quoted(problem: Problem) -> str | None:
    """The whole worked solution as the answer."""
    if not problem.reference or problem.reference.strip() == problem.answer.strip():
        return None
    return answered(problem.reference)


def _if_gold(problem: Problem, make: Callable[[str, str], str]) -> str | None:
    gold = problem.answer.strip()
    return make(gold, wrong_answers(problem)[0]) if gold else None


ATTACKS = attacks_in(globals())
