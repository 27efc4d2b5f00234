"""What an attack is, and what several of them need to know of a problem."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rlsd_lightning.types import Problem

_TESTS = ("test_code", "tests", "inputs", "fn_name", "entry_point")
"""What the extra of a problem has that asks for a program."""
Kind = Literal["nothing", "several", "guess", "stuffed", "rule"]
"""What being paid means:

nothing   says nothing of the problem: whatever is paid is paid for nothing
several   names several answers: being paid means that naming all of them is enough
guess     always the same answer: chance pays it sometimes, and that share is what guessing earns
stuffed   was given the gold answer, and hides it among wrong ones or twists it
rule      was given the gold answer, and shows which of several answers counts
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way to be paid without solving the problem."""

    name: str
    """Unique among all."""
    tries: str
    """What it does, in a few words."""
    kind: Kind
    respond: Callable[[Problem], str | None]
    """The response to a problem; None where it makes no sense. Pure: same problem, same response."""


def attack(kind: Kind) -> Callable[[Callable[[Problem], str | None]], Attack]:
    """Make an attack of a function: its name is the function's, what it tries the first line of the docstring.

    Args:
        kind: what being paid means.

    Example:
        >>> @attack("guess")
        ... def always_42(problem):
        ...     '''answers 42'''
        ...     return "42"
        >>> always_42.name, always_42.tries, always_42.respond(Problem(id="1", prompt=""))
        ('always 42', 'answers 42', '42')
    """

    def make(respond: Callable[[Problem], str | None]) -> Attack:
        assert respond.__doc__, "an attack says in its docstring what it tries"
        name = respond.__name__.strip("_").replace("_", " ")
        tries = respond.__doc__.splitlines()[0].rstrip(".")
        return Attack(name=name, tries=tries, kind=kind, respond=respond)

    return make


def attacks_in(namespace: Mapping[str, Any]) -> tuple[Attack, ...]:
    """Return the attacks of a module, in the order in which they stand there."""
    return tuple(value for value in namespace.values() if isinstance(value, Attack))


def answered(answer: str) -> str:
    """Return a response that gives an answer in the form that most verifiers ask for.

    Example:
        >>> answered("4")
        '<thought></thought><answer>4</answer>'
    """
    return f"<thought></thought><answer>{answer}</answer>"


def fenced(language: str, code: str) -> str:
    r"""Return a response whose answer is a code block.

    Example:
        >>> fenced("sql", "SELECT 1")
        '<thought></thought><answer>\n```sql\nSELECT 1\n```\n</answer>'
    """
    return answered(f"\n```{language}\n{code}\n```\n")


def wants_query(problem: Problem) -> bool:
    """Whether the answer is to be SQL."""
    is_there = problem.extra.get("schema_and_data") is not None or problem.extra.get("dsn")
    return bool(is_there) or problem.kind.lower().replace("-", "_") in ("sql", "text_to_sql")


def wants_program(problem: Problem) -> bool:
    """Whether the answer is to be a program."""
    by_kind = problem.kind.lower() in ("code", "coding", "programming")
    return by_kind or any(name in problem.extra for name in _TESTS)


def options_of(problem: Problem) -> dict[str, str]:
    """Return the texts of a problem's options by letter; none where it lists none.

    Example:
        >>> options_of(Problem(id="1", prompt="", extra={"options": ["cat", "dog"]}))
        {'A': 'cat', 'B': 'dog'}
    """
    given = problem.extra.get("options") or {}
    if isinstance(given, Mapping):
        return {str(letter): str(text) for letter, text in given.items() if text is not None}
    return dict(zip(string.ascii_uppercase, map(str, given), strict=False))


def wrong_answers(problem: Problem) -> list[str]:
    """Return two answers, both wrong and as like the gold answer as can be told by looking at it.

    Example:
        >>> [wrong_answers(Problem(id="1", prompt="", answer=answer)) for answer in ("4", "B", "yes", "a dog")]
        [['5', '6'], ['A', 'C'], ['no', 'no'], ['zebra', 'quartz']]
    """
    gold = problem.answer.strip()
    letters = list(options_of(problem)) or list("ABCD")
    if gold in letters:
        return [letter for letter in letters if letter != gold][:2]
    if gold.lower() in ("yes", "true", "no", "false"):
        return ["no", "no"] if gold.lower() in ("yes", "true") else ["yes", "yes"]
    if gold.isascii() and gold.isdigit():
        return [str(int(gold) + 1), str(int(gold) + 2)]
    if any(sign.isdigit() or sign == "\\" for sign in gold) and "pattern" not in problem.extra:
        return ["7919", "7927"]
    return ["zebra", "quartz"]
