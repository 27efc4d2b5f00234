"""Canaries: a small share of the training problems whose teacher is shown a wrong reference on purpose.

The policy never reads it, and the verifier goes on to judge by the true answer. A policy that gives the planted answer
more often than another wrong one has learnt it through the teacher: the leak, caught in the act. This changes what is
trained, so it is off unless asked for (data.canary_fraction).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rlsd_lightning.types import Problem

KEY = "canary"
"""Where a problem's `extra` holds its Canary."""
_MAX_TRIES = 64
"""Problems looked at to find one of the same kind with another answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What is planted in a problem."""

    answer: str
    """Another problem's answer, which the teacher is shown as the gold one."""
    reference: str | None
    """That problem's reference."""
    control: str
    """A third problem's answer, chosen alike and shown to nobody: how often chance gives such an answer."""


class Canaries(Sequence[Problem]):
    """Problems, a share of which carry a Canary in `extra`; the same ones in every run and on every rank.

    A problem is chosen by a digest of its id. One for which no two donors are found stays as it is.

    Args:
        problems: the training set, by index.
        fraction: share of them, in [0, 1].
    """

    def __init__(self, problems: Sequence[Problem], fraction: float) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(
                f"data.canary_fraction is {fraction}. Needed: a value in [0, 1]. A few percent are plenty; 0 plants none."
            )
        self._problems = problems
        self._fraction = fraction

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:  # type: ignore[override]
        problem = self._problems[index]
        number = _digest(problem.id)
        if number / 2**64 >= self._fraction:
            return problem
        donors = self._donors(problem, start=number % len(self))
        if len(donors) < 2:
            return problem
        # The second donor's answer is the rarer one, as it differs from the first's: a coin decides which is shown.
        shown, control = donors if number >> 32 & 1 else reversed(donors)
        canary = Canary(answer=shown.answer, reference=shown.reference, control=control.answer)
        return dataclasses.replace(problem, extra={**problem.extra, KEY: canary})

    def _donors(self, problem: Problem, start: int) -> list[Problem]:
        """Return up to two problems of the same kind; all three answers differ."""
        found: list[Problem] = []
        taken = {_plain(problem.answer)}
        for step in range(min(_MAX_TRIES, len(self))):
            other = self._problems[(start + step) % len(self)]
            if other.kind == problem.kind and _plain(other.answer) not in taken:
                found.append(other)
                taken.add(_plain(other.answer))
            if len(found) == 2:
                break
        return found


def as_taught(problem: Problem) -> Problem:
    """Return the problem as the teacher is shown it: itself, or a canary with what is planted in it.

    Example:
        >>> canary = Canary(answer="7", reference="3 + 4 = 7", control="9")
        >>> as_taught(Problem(id="1", prompt="2 + 3?", answer="5", extra={"canary": canary})).answer
        '7'
    """
    canary = problem.extra.get(KEY)
    if canary is None:
        return problem
    return dataclasses.replace(problem, answer=canary.answer, reference=canary.reference)


def with_reference_of(problem: Problem, other: Problem) -> Problem:
    """Return the problem with another one's reference and answer, and nothing planted."""
    extra = {name: value for name, value in problem.extra.items() if name != KEY}
    return dataclasses.replace(problem, reference=other.reference, answer=other.answer, extra=extra)


def _digest(name: str) -> int:
    """Return a number below 2^64 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(f"canary:{name}".encode()).digest()[:8], "big")


def _plain(answer: str) -> str:
    return answer.strip().casefold()
