"""A second task: read handwritten digits that stand side by side, and add them up modulo 10.

Real images: the 1,797 digits of 8 x 8 grey pixels that scikit-learn brings along (Alpaydin and Kaynak, Optical
Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998). Puzzles to learn from and held-out ones
are made of different digits. Sums stay single digits, so all references have equally many tokens.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from rlsd_lightning.quickstart.task import Solution, Streams, running_sums

CELL_PIXELS = 16
MODULUS = 10
TRAIN_FRACTION = 0.75
_EASY_DIGIT = 4
_MAX_DIGITS = 9
_SOURCE_PIXELS = 8
_MOST_INK = 16
_MAX_SHIFT = 1
_LOOKALIKES = {0: 6, 6: 0, 1: 7, 7: 1, 2: 3, 3: 2, 4: 9, 9: 4, 5: 8, 8: 5}
"""What each digit is taken for: one other, so that being surer of the likeliest reading mends little. With two to choose
from, plain GRPO sharpened its readings within 30 steps, whoever gave the credit."""


@dataclass(frozen=True, slots=True)
class Digit:
    """One handwritten digit."""

    value: int
    """What its writer meant."""
    pixels: bytes
    """Grey values, dark ink on white, row by row. [8 * 8]"""


@dataclass(frozen=True, slots=True)
class Placed:
    """A digit in its cell of the image."""

    digit: Digit
    right: int
    """How far from the middle of the cell, in pixels; negative is to the left."""
    down: int
    """The same, downwards."""


@dataclass(frozen=True, slots=True)
class DigitPuzzle:
    """Digits in a row, to be added up."""

    row: tuple[Placed, ...]
    """From left to right. [num_digits]"""

    @property
    def question(self) -> str:
        """The problem as the policy reads it: the same for every row of digits."""
        return f"sum mod {MODULUS}"

    @property
    def readings(self) -> list[int]:
        """The digits."""
        return [placed.digit.value for placed in self.row]

    def solve(self, readings: Sequence[int]) -> Solution:
        """Name every digit, then the running sums: "3 7 5 3+7=0 0+5=5"."""
        steps = [*map(str, readings), *running_sums(readings, MODULUS)]
        return Solution(" ".join(steps), str(sum(readings) % MODULUS))

    def slip(self, reading: int, rng: random.Random) -> int:
        """Take a digit for the one that looks like it."""
        return _LOOKALIKES[reading]

    def render(self) -> Image.Image:
        """Draw the digits, twice as large, as an RGB image of 16 pixels a digit by 16 pixels."""
        image = Image.new("L", (CELL_PIXELS * len(self.row), CELL_PIXELS), "white")
        for place, placed in enumerate(self.row):
            image.paste(_draw_cell(placed), (place * CELL_PIXELS, 0))
        return image.convert("RGB")


def _draw_cell(placed: Placed) -> Image.Image:
    digit = Image.frombytes("L", (_SOURCE_PIXELS, _SOURCE_PIXELS), placed.digit.pixels)
    cell = Image.new("L", (CELL_PIXELS, CELL_PIXELS), "white")
    large = digit.resize(cell.size, Image.Resampling.BILINEAR)
    cell.paste(large, (placed.right, placed.down))
    return cell


@dataclass(frozen=True, slots=True)
class Digits:
    """The task."""

    num_digits: int = 3
    """How many digits stand in a row, at most 9."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_digits <= _MAX_DIGITS:
            raise ValueError(
                f"prepare.task.num_digits is {self.num_digits}. Needed is 1 to {_MAX_DIGITS} digits in a row. "
                "Set it to 3 for short chains, to 5 for long ones."
            )

    def draw(self, seed: int) -> Streams:
        """Split the digits, then put puzzles together from either part; easy ones have small digits only.

        Small digits have so few sums that the model finds out within 100 steps that it is to add. With all digits from the
        start, a run was still guessing sums after 400.
        """
        train, held_out = split(handwritten_digits(), seed)
        small = [digit for digit in train if digit.value <= _EASY_DIGIT]
        return Streams(
            train=draw_puzzles(f"train {seed}", self, train),
            held_out=draw_puzzles(f"held out {seed}", self, held_out),
            easy=draw_puzzles(f"easy {seed}", self, small),
        )


def handwritten_digits() -> list[Digit]:
    """Load scikit-learn's digits; they are part of its installation.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError(
            "prepare.task is Digits, but scikit-learn is not installed here. Needed are the handwritten digits that it "
            "brings along. Run: pip install 'rlsd-lightning[claims]'"
        )
    from sklearn.datasets import load_digits

    source = load_digits()
    whites = 255 - (source.images * 255 / _MOST_INK).astype("uint8")
    return [
        Digit(int(value), white.tobytes())
        for value, white in zip(source.target, whites, strict=True)
    ]


def split(digits: Sequence[Digit], seed: int) -> tuple[list[Digit], list[Digit]]:
    """Return digits to learn from and held-out ones, none in both.

    Args:
        digits: all of them.
        seed: of the shuffling before the cut at TRAIN_FRACTION.
    """
    shuffled = random.Random(f"digits {seed}").sample(digits, len(digits))
    num_train = int(TRAIN_FRACTION * len(digits))
    return shuffled[:num_train], shuffled[num_train:]


def draw_puzzles(seed: str, task: Digits, digits: Sequence[Digit]) -> Iterator[DigitPuzzle]:
    """Yield puzzles without end, no two of them equal.

    Args:
        seed: the same text gives the same puzzles, on every machine.
        task: how many digits stand in a row.
        digits: what they are made of.
    """
    rng = random.Random(seed)
    seen = set()
    while True:
        puzzle = DigitPuzzle(tuple(_place(rng, digits) for _ in range(task.num_digits)))
        if puzzle not in seen:
            seen.add(puzzle)
            yield puzzle


def _place(rng: random.Random, digits: Sequence[Digit]) -> Placed:
    right, down = (rng.randint(-_MAX_SHIFT, _MAX_SHIFT) for _ in range(2))
    return Placed(rng.choice(digits), right, down)
