"""From a row to a Problem: which column means what, and what makes a row unusable."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from rlsd_lightning.data.sources import BadRowError
from rlsd_lightning.types import Problem

IMAGE_PLACEHOLDER = "<image>"
"""Stands in a question's text where an image belongs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of a row holds which field of a Problem; every other column goes to `extra`.

    Example:
        >>> Columns(problem="question", kind={"constant": "math"}).constant_kind
        'math'
    """

    problem: str = "problem"
    """The question's text; "<image>" in it says where an image stands. Required in every row."""
    answer: str = "answer"
    """The gold answer: text, number or boolean. Required in every row."""
    images: str | None = "images"
    """A path, encoded bytes, a dict with one of them, a PIL image, or a list of these."""
    reference: str | None = "reference"
    """The worked solution or trace."""
    kind: str | Mapping[str, str] | None = "kind"
    """A column, or {"constant": "math"} for every row."""
    id: str | None = "id"
    """Unique in the data set; rows without one are named by their location."""

    def __post_init__(self) -> None:
        if isinstance(self.kind, Mapping) and set(self.kind) != {"constant"}:
            raise ValueError(
                f"data set: columns.kind is {dict(self.kind)}. Needed: a column's name, or one key `constant`. "
                "Write kind: {constant: math} to give every row the same kind."
            )

    @property
    def constant_kind(self) -> str | None:
        """The kind of every row, where it comes from no column."""
        return self.kind["constant"] if isinstance(self.kind, Mapping) else None

    def used(self) -> dict[str, str]:
        """Return the column of each field that comes from a column."""
        named = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        return {field: column for field, column in named.items() if isinstance(column, str)}


def parse_columns(columns: Mapping[str, Any] | None) -> Columns:
    """Build Columns from a mapping; a field that does not exist is an error.

    Example:
        >>> parse_columns({"problem": "question"}).problem
        'question'
    """
    known = [spec.name for spec in fields(Columns)]
    for key in columns or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Remove it: other columns go to extra."
            needed = f"{', '.join(known[:-1])} or {known[-1]}"
            raise ValueError(f"data set: columns has the key {key!r}. Needed: {needed}. {hint}")
    return Columns(**(columns or {}))


def name_column(column: str | None, row: Mapping[str, Any]) -> str:
    """Name a column for a message; if the row lacks it, also those that it has.

    Example:
        >>> name_column("answer", {"question": "1+1?", "label": "2"})
        "column 'answer' is not among question, label"
    """
    if column is None:
        return "no column is set"
    there = "" if column in row else f" is not among {', '.join(row) or 'none'}"
    return f"column {column!r}{there}"


def row_to_problem(
    row: Mapping[str, Any], columns: Columns, location: str, root: Path | None = None
) -> Problem:
    """Read a row as a Problem; images stay undecoded.

    A column that is null counts as absent, so that a parquet row equals its JSONL twin.

    Args:
        row: column names to values.
        columns: which column is which field.
        location: where the row stands, for messages and as the id of a row without one.
        root: the folder that relative image paths start from.

    Raises:
        BadRowError: no question, no answer, images that are missing or of no usable type, or placeholders that
            do not match the images.

    Example:
        >>> problem = row_to_problem({"problem": "1+1?", "answer": 2, "source": "toy"}, Columns(), "train.jsonl:1")
        >>> problem.answer, problem.extra, problem.id
        ('2', {'source': 'toy'}, 'train.jsonl:1')
    """
    reader = _Row(row, columns, location)
    prompt = reader.text("problem")
    if prompt is None:
        raise reader.fault("problem", "has no question")
    images = tuple(_image(image, reader, root) for image in _as_list(reader.value("images")))
    num_places = prompt.count(IMAGE_PLACEHOLDER)
    if num_places and num_places != len(images):
        raise BadRowError(
            location,
            f"has {num_places} {IMAGE_PLACEHOLDER} in its question and {len(images)} images; write one for each "
            "image, or none at all (the images then stand first)",
        )
    used = set(columns.used().values())
    return Problem(
        id=_identity(reader, location),
        prompt=prompt,
        images=images,
        answer=_answer(reader),
        reference=reader.text("reference"),
        kind=columns.constant_kind or reader.text("kind") or "",
        extra={key: value for key, value in row.items() if key not in used and value is not None},
        location=location,
    )


class _Row:
    """A row read field by field, with errors that name row and column."""

    def __init__(self, row: Mapping[str, Any], columns: Columns, location: str) -> None:
        self.row = row
        self.used = columns.used()
        self.location = location

    def value(self, field: str) -> Any:
        return self.row.get(self.used[field]) if field in self.used else None

    def text(self, field: str) -> str | None:
        """The field's text; None where it is absent or blank."""
        value = self.value(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            raise self.fault(field, f"is {type(value).__name__}, not text")
        return value

    def fault(self, field: str, what: str) -> BadRowError:
        return BadRowError(self.location, f"{what} ({name_column(self.used.get(field), self.row)})")


def _answer(reader: _Row) -> str:
    value = reader.value("answer")
    if value is None or (isinstance(value, str) and not value.strip()):
        raise reader.fault("answer", "has no answer")
    if isinstance(value, float) and not math.isfinite(value):
        raise reader.fault("answer", f"has the answer {value}, which is no number to compare with")
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)  # true, not True: as the file has it
    raise reader.fault(
        "answer",
        f"has an answer of type {type(value).__name__}; write it as one text, number or boolean",
    )


def _identity(reader: _Row, location: str) -> str:
    value = reader.value("id")
    if value is None or value == "":
        return location
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise reader.fault(
            "id", f"has an id of type {type(value).__name__}; write it as text or integer"
        )
    return str(value)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _image(image: Any, reader: _Row, root: Path | None) -> Any:
    """Return the image undecoded, its path made whole."""
    if isinstance(image, Mapping) and image.get("bytes") is None and image.get("path"):
        image = image["path"]
    if isinstance(image, Mapping) and isinstance(image.get("bytes"), bytes):
        return image
    if isinstance(image, bytes | Image.Image):
        return image
    if not isinstance(image, str | os.PathLike) or not os.fspath(image):
        raise reader.fault(
            "images",
            f"has an image of type {type(image).__name__}; needed: a path, bytes or {{bytes, path}}",
        )
    path = Path(image).expanduser()
    if not path.is_absolute():
        if root is None:
            raise reader.fault("images", f"has the relative image path {path}; set image_root")
        path = root / path
    if not path.is_file():
        raise reader.fault("images", f"names the image {path}, which does not exist")
    return str(path)
