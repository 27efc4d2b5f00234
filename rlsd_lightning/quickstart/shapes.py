"""The quickstart's task: count the shapes of some colours in a drawn grid and add the counts up.

A grid of 3 x 3 cells, most of them filled, so that every sum is a single digit. The worked chain names each
count and then the running sums, which gives a verifier one number to judge and a reference many tokens to say.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from rlsd_lightning.quickstart.task import Solution, Streams, running_sums

COLOURS = {
    "red": (214, 48, 49),
    "green": (46, 160, 67),
    "blue": (38, 98, 214),
    "yellow": (240, 200, 30),
    "purple": (142, 68, 173),
    "orange": (230, 112, 20),
}
SHAPES = ("circle", "square", "triangle")
CELLS_PER_SIDE = 3
CELL_PIXELS = 16
FILLED_FRACTION = 0.8
_BACKGROUND = (245, 245, 245)
_COLOUR_JITTER = 14
_SPARSE_FRACTION = 0.4
_UP_FRACTION = 0.15


@dataclass(frozen=True, slots=True)
class Shape:
    """One filled cell; sizes and places in pixels of the image."""

    colour: str
    form: str
    fill: tuple[int, int, int]
    box: tuple[int, int, int, int]
    """Left, top, right, bottom; both ends belong to the shape."""


@dataclass(frozen=True, slots=True)
class ShapePuzzle:
    """A grid of shapes and the colours to be counted."""

    cells: tuple[Shape | None, ...]
    """Row by row; None is an empty cell. [CELLS_PER_SIDE * CELLS_PER_SIDE]"""
    asked: tuple[str, ...]
    """Colours in the order of the question."""

    def count(self, colour: str) -> int:
        """Return how many cells hold `colour`."""
        return sum(cell is not None and cell.colour == colour for cell in self.cells)

    @property
    def question(self) -> str:
        """The problem as the policy reads it: "green+yellow+red"."""
        return "+".join(self.asked)

    @property
    def readings(self) -> list[int]:
        """The count of each colour that is asked for."""
        return [self.count(colour) for colour in self.asked]

    def solve(self, readings: Sequence[int]) -> Solution:
        """Name every count, then the running sums: "green2 yellow2 red0 2+2=4 4+0=4"."""
        named = [f"{colour}{count}" for colour, count in zip(self.asked, readings, strict=True)]
        return Solution(" ".join(named + running_sums(readings)), str(sum(readings)))

    def slip(self, reading: int, rng: random.Random) -> int:
        """Miscount by one, mostly downwards."""
        return reading + 1 if reading == 0 or rng.random() < _UP_FRACTION else reading - 1

    def render(self) -> Image.Image:
        """Draw the grid as an RGB image of 48 x 48 pixels."""
        image = Image.new("RGB", (CELLS_PER_SIDE * CELL_PIXELS,) * 2, _BACKGROUND)
        draw = ImageDraw.Draw(image)
        for shape in filter(None, self.cells):
            _draw(draw, shape)
        return image


@dataclass(frozen=True, slots=True)
class Shapes:
    """The task; a sum of nine cells at most is a single digit."""

    num_colours: int = 4
    """How many colours the grids may show, at most 6."""
    num_counted: int = 3
    """How many of them a question asks for."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_counted <= self.num_colours <= len(COLOURS):
            raise ValueError(
                f"prepare.task: num_counted is {self.num_counted} and num_colours is {self.num_colours}; needed is "
                f"1 <= num_counted <= num_colours <= {len(COLOURS)}. Set both, e.g. to 3 and 4."
            )

    def draw(self, seed: int) -> Streams:
        """Draw grids; easy ones are sparse, which are easier to count."""
        puzzles = draw_puzzles(f"quickstart {seed}", self)  # one stream: no puzzle is in two places
        easy = draw_puzzles(f"sparse {seed}", self, filled_fraction=_SPARSE_FRACTION)
        return Streams(train=puzzles, held_out=puzzles, easy=easy)


def draw_puzzles(
    seed: str, task: Shapes, filled_fraction: float = FILLED_FRACTION
) -> Iterator[ShapePuzzle]:
    """Yield puzzles without end, no two of them equal.

    Args:
        seed: the same text gives the same puzzles, on every machine.
        task: which colours are shown, and how many of them a question asks for.
        filled_fraction: probability that a cell holds a shape.
    """
    rng = random.Random(seed)
    colours = list(COLOURS)[: task.num_colours]
    seen = set()
    while True:
        cells = tuple(
            _draw_shape(rng, place, colours) if rng.random() < filled_fraction else None
            for place in range(CELLS_PER_SIDE**2)
        )
        puzzle = ShapePuzzle(cells, tuple(rng.sample(colours, task.num_counted)))
        if puzzle not in seen:
            seen.add(puzzle)
            yield puzzle


def _draw_shape(rng: random.Random, place: int, colours: Sequence[str]) -> Shape:
    colour, form = rng.choice(colours), rng.choice(SHAPES)
    jitter = (rng.randint(-_COLOUR_JITTER, _COLOUR_JITTER) for _ in range(3))
    fill = tuple(
        min(255, max(0, base + d)) for base, d in zip(COLOURS[colour], jitter, strict=True)
    )
    size = rng.randint(9, 13)
    row, column = divmod(place, CELLS_PER_SIDE)
    left = column * CELL_PIXELS + rng.randint(1, CELL_PIXELS - 1 - size)
    top = row * CELL_PIXELS + rng.randint(1, CELL_PIXELS - 1 - size)
    return Shape(colour, form, fill, (left, top, left + size - 1, top + size - 1))


def _draw(draw: ImageDraw.ImageDraw, shape: Shape) -> None:
    left, top, right, bottom = shape.box
    if shape.form == "circle":
        draw.ellipse(shape.box, fill=shape.fill)
    elif shape.form == "square":
        draw.rectangle(shape.box, fill=shape.fill)
    else:
        draw.polygon([(left, bottom), ((left + right) / 2, top), (right, bottom)], fill=shape.fill)
