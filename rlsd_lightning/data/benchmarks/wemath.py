"""We-Math (arXiv:2407.01284) by the fields of We-Math/We-Math on the hub: 525 problems in steps, 1,740 rows."""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import Any

from rlsd_lightning.data.benchmarks.dataset import BenchmarkDataset
from rlsd_lightning.data.benchmarks.fields import FieldError, Row, present, text_field, without
from rlsd_lightning.data.benchmarks.opening import open_published


class WeMath(BenchmarkDataset):
    """We-Math's rows; `extra` has ID, key, option (one text), options (the same as a list), "knowledge concept", "question number".

    The id is "<ID>/<key>": the rows of one problem share their ID. A number over some of a problem's rows says nothing of
    the problem, so a limit should not cut one.

    Args:
        path: the hub's name, or a local copy.
        split: of hub or folder; None for testmini.
        revision: branch, tag or commit on the hub.
        limit: use the first so many rows only.

    Raises:
        ValueError: as BenchmarkDataset.
    """

    def __init__(
        self,
        path: str = "We-Math/We-Math",
        *,
        split: str | None = None,
        revision: str | None = None,
        limit: int | None = None,
    ) -> None:
        source = open_published(path, split, ["testmini"], revision=revision)
        super().__init__(path, source, wemath_columns, limit)


def wemath_columns(row: Row) -> dict[str, Any]:
    """Return a Problem's columns of a published row.

    Example:
        >>> columns = wemath_columns({
        ...     "ID": "2steps_7", "key": "2steps_1", "question": "How long?", "option": "A. 1;B. 2; C. No correct answer",
        ...     "answer": "B", "image_path": {"bytes": b"...", "path": None}, "knowledge concept": "Length", "question number": 7,
        ... })
        >>> columns["id"], columns["options"]
        ('2steps_7/2steps_1', ['1', '2', 'No correct answer'])
    """
    image = present(row, "image_path")
    if image is None:
        raise FieldError("has no image in the published field 'image_path'")
    option = text_field(row, "option")
    options = split_options(option)
    return {
        **without(row, ["answer", "image_path"]),
        **({"options": options} if options else {}),
        "ID": text_field(row, "ID"),
        "key": text_field(row, "key"),
        "option": option,
        "id": f"{text_field(row, 'ID')}/{text_field(row, 'key')}",
        "problem": text_field(row, "question"),
        "images": [image],
        "answer": text_field(row, "answer"),
        "kind": "multiple_choice",
    }


def split_options(option: str) -> list[str]:
    """Take the published text of all options apart: "A. ..; B. ..; ..". Some options have a ";" of their own.

    Example:
        >>> split_options("A. 1; 3;B. 2; 4; C. No correct answer")
        ['1; 3', '2; 4', 'No correct answer']
    """
    starts: list[tuple[int, int]] = []
    for letter in ascii_uppercase:
        after = starts[-1][1] if starts else 0
        found = re.compile(rf"(?:^|;)\s*{letter}\s*\.\s*").search(option, after)
        if found is None:
            break
        starts.append(found.span())
    ends = [start for start, _ in starts[1:]] + [len(option)]
    return [option[begin:end].strip(" ;\n") for (_, begin), end in zip(starts, ends, strict=False)]
