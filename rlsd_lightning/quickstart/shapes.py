"""The quickstart's task: count the shapes of some colours in a drawn grid and add the counts up.

A grid of 3 x 3 cells, most of them filled, so that every sum is a single digit. The worked chain names each
count and then the running sums, which gives a verifier one number to judge and a reference many tokens to say.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

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


@dataclass(frozen=True, slots=True)
class Shape:
    """One filled cell; sizes and places in pixels of the image."""

    colour: str
    form: str
    fill: tuple[int, int, int]
    box: tuple[int, int, int, int]
    """Left, top, right, bottom; both ends belong to the shape."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A grid of shapes and the colours to be counted."""

    cells: tuple[Shape | None, ...]
    """Row by row; None is an empty cell. [CELLS_PER_SIDE * CELLS_PER_SIDE]"""
    asked: tuple[str, ...]
    """Colours in the order of the question."""

    def count(self, colour: str) -> int:
        """Return how many cells hold `colour`."""
        return sum(cell is not None and cell.colour == colour for cell in self.cells)

    @property
    def counts(self) -> list[int]:
        """The count of each colour that is asked for."""
        return [self.count(colour) for colour in self.asked]

    @property
    def question(self) -> str:
        """The problem as the policy reads it: "green+yellow+red"."""
        return "+".join(self.asked)


def draw_puzzles(
    seed: str, num_colours: int, num_counted: int, filled_fraction: float = FILLED_FRACTION
) -> Iterator[Puzzle]:
    """Yield puzzles without end, no two of them equal.

    Args:
        seed: the same text gives the same puzzles, on every machine.
        num_colours: how many of COLOURS a grid may show.
        num_counted: how many of them a question asks for.
        filled_fraction: probability that a cell holds a shape.
    """
    if not 1 <= num_counted <= num_colours <= len(COLOURS):
        raise ValueError(
            f"quickstart: num_counted is {num_counted} and num_colours is {num_colours}; needed is "
            f"1 <= num_counted <= num_colours <= {len(COLOURS)}. Set both, e.g. to 3 and 4."
        )
    rng = random.Random(seed)
    colours = list(COLOURS)[:num_colours]
    seen = set()
    while True:
        cells = tuple(
            _draw_shape(rng, place, colours) if rng.random() < filled_fraction else None
            for place in range(CELLS_PER_SIDE**2)
        )
        puzzle = Puzzle(cells, tuple(rng.sample(colours, num_counted)))
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


def render(puzzle: Puzzle) -> Image.Image:
    """Draw the puzzle's grid as an RGB image of 48 x 48 pixels."""
    image = Image.new("RGB", (CELLS_PER_SIDE * CELL_PIXELS,) * 2, _BACKGROUND)
    draw = ImageDraw.Draw(image)
    for shape in filter(None, puzzle.cells):
        left, top, right, bottom = shape.box
        if shape.form == "circle":
            draw.ellipse(shape.box, fill=shape.fill)
        elif shape.form == "square":
            draw.rectangle(shape.box, fill=shape.fill)
        else:
            draw.polygon(
                [(left, bottom), ((left + right) / 2, top), (right, bottom)], fill=shape.fill
            )
    return image


def chain(asked: Sequence[str], counts: Sequence[int]) -> str:
    """Write the worked steps: every count, then the running sums.

    Example:
        >>> chain(["green", "yellow", "red"], [2, 2, 0])
        'green2 yellow2 red0 2+2=4 4+0=4'
    """
    steps = [f"{colour}{count}" for colour, count in zip(asked, counts, strict=True)]
    total = counts[0]
    for count in counts[1:]:
        steps.append(f"{total}+{count}={total + count}")
        total += count
    return " ".join(steps)


def reference(puzzle: Puzzle) -> str:
    """Write what only the teacher may read: the worked chain and the answer."""
    return f"{chain(puzzle.asked, puzzle.counts)} -> {sum(puzzle.counts)}"


def write_dataset(folder: Path, splits: dict[str, Iterable[Puzzle]]) -> None:
    """Write one JSONL file per split and a PNG image per puzzle, in the format of a user's own data.

    Args:
        folder: will hold `<split>.jsonl` and `images/`; image paths in the rows are relative to it.
        splits: puzzles by the split's name.
    """
    (folder / "images").mkdir(parents=True)
    number = 0
    for split, puzzles in splits.items():
        rows = []
        for puzzle in puzzles:
            number += 1
            image = f"images/{number:06d}.png"
            render(puzzle).save(folder / image)
            rows.append(_row(f"{split}-{number:06d}", puzzle, image))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _row(id_: str, puzzle: Puzzle, image: str) -> dict[str, str | list[str]]:
    return {
        "id": id_,
        "problem": puzzle.question,
        "answer": str(sum(puzzle.counts)),
        "images": [image],
        "reference": reference(puzzle),
        "kind": "numerical",
    }
