"""Puzzles as files: one JSONL file per split and one PNG image per puzzle, in the format of a user's own data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rlsd_lightning.quickstart.task import Puzzle, reference, true_solution


def write_dataset(folder: Path, splits: dict[str, Iterable[Puzzle]]) -> None:
    """Write one JSONL file per split and a PNG image per puzzle.

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
            puzzle.render().save(folder / image)
            rows.append(_row(f"{split}-{number:06d}", puzzle, image))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _row(id_: str, puzzle: Puzzle, image: str) -> dict[str, str | list[str]]:
    return {
        "id": id_,
        "problem": puzzle.question,
        "answer": true_solution(puzzle).answer,
        "images": [image],
        "reference": reference(puzzle),
        "kind": "numerical",
    }
