"""What the warm start needs to know about a task: puzzles with readings, and what follows from readings.

A puzzle is one image and one question about it. Its readings are what must be perceived, one digit each; the rest
of a chain follows from them by arithmetic. So a demonstration goes wrong by misreading, and stays consistent.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


class Puzzle(Hashable, Protocol):
    """An image and a question. Equal puzzles are the same problem."""

    @property
    def question(self) -> str:
        """The problem as the policy reads it. All questions of a task have equally many tokens."""

    @property
    def readings(self) -> Sequence[int]:
        """What is to be perceived, in the order of the chain; each is in 0 to 9, all puzzles have equally many."""

    def solve(self, readings: Sequence[int]) -> Solution:
        """Return what follows from readings, true ones or not."""

    def slip(self, reading: int, rng: random.Random) -> int:
        """Return a plausible misreading of `reading`; never `reading` itself."""

    def render(self) -> Image.Image:
        """Draw the image; all images of a task have one size, in whole tokens."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What follows from readings."""

    chain: str
    """The worked steps; the readings are its first digits."""
    answer: str
    """What the steps lead to."""


def running_sums(readings: Sequence[int], modulus: int | None = None) -> list[str]:
    """Write how readings add up, one step after the other.

    Args:
        readings: what to add.
        modulus: every sum is taken modulo it; None for plain sums.

    Example:
        >>> running_sums([3, 7, 5])
        ['3+7=10', '10+5=15']
        >>> running_sums([3, 7, 5], modulus=10)
        ['3+7=0', '0+5=5']
    """
    steps, total = [], readings[0]
    for reading in readings[1:]:
        before, total = total, total + reading
        if modulus is not None:
            total %= modulus
        steps.append(f"{before}+{reading}={total}")
    return steps


def true_solution(puzzle: Puzzle) -> Solution:
    """Return what follows from the puzzle's true readings."""
    return puzzle.solve(puzzle.readings)


def reference(puzzle: Puzzle) -> str:
    """Write what only the teacher may read: the worked chain and the answer."""
    solution = true_solution(puzzle)
    return f"{solution.chain} -> {solution.answer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """A task's puzzles without end; no puzzle is in two places of `train` and `held_out` together."""

    train: Iterator[Puzzle]
    """To learn from, in the warm start and later."""
    held_out: Iterator[Puzzle]
    """To measure with."""
    easy: Iterator[Puzzle]
    """For the first steps of the warm start."""


class Task(Protocol):
    """A dataclass of a task's settings; they are written down in the folder that is made with them."""

    def draw(self, seed: int) -> Streams:
        """Draw puzzles; the same seed gives the same ones, on every machine."""
