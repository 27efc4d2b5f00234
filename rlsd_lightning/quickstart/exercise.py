"""What the warm start needs to know about a task in text: questions with one right answer, and how answers go wrong."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol


class Exercise(Hashable, Protocol):
    """A question. Equal exercises are the same problem."""

    @property
    def question(self) -> str:
        """The problem as the policy reads it."""

    @property
    def answer(self) -> str:
        """The gold answer; the teacher reads it as its reference."""

    @property
    def columns(self) -> dict[str, Any]:
        """What a row of the data set holds beside id, problem and answer: what its verifier needs, say."""

    def respond(self) -> str:
        """Write a true response: a thought, if the task has one, and the gold answer in its tags."""

    def respond_sloppily(self, slip_fraction: float, rng: random.Random) -> str:
        """Write a response that goes wrong as a hurried one does.

        Args:
            slip_fraction: probability of each slip that the question gives room for.
            rng: draws the slips.
        """


class TextTask(Protocol):
    """A dataclass of a task's settings; they are written down in the folder that is made with them."""

    @property
    def words(self) -> Sequence[str]:
        """What is one token each, beside the bytes."""

    @property
    def facts(self) -> Sequence[str]:
        """The words and characters of a response that may be right or wrong; all others are its form."""

    def draw(self, seed: int) -> Iterator[Exercise]:
        """Draw exercises without end, no two of them equal; the same seed gives the same ones, on every machine."""

    def write_files(self, folder: Path, seed: int) -> None:
        """Write what the data set needs beside its rows.

        Args:
            folder: where the rows are.
            seed: as of `draw`.
        """
