"""Checks of rows before training: one pass over the data set, one message with all faults."""

from __future__ import annotations

import difflib
import logging
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from rlsd_lightning.data.columns import Columns, name_column, row_to_problem
from rlsd_lightning.data.images import ImageError, check_image
from rlsd_lightning.data.sources import BadRowError, Source
from rlsd_lightning.types import Problem

log = logging.getLogger(__name__)

MAX_LISTED = 10
"""A message lists so many faults and counts the rest."""

OnBadRow = Literal["error", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """Reads a row as a Problem and checks what the run needs of it."""

    columns: Columns
    root: Path | None
    """The folder that relative image paths start from."""
    check_images: bool
    """Whether image files are opened and verified, beyond being there."""
    require_reference: bool
    """Whether a row without reference is unusable."""

    def __call__(self, row: Mapping[str, Any], location: str) -> Problem:
        """Return the row's problem; raise BadRowError if it cannot be used."""
        problem = row_to_problem(row, self.columns, location, self.root)
        if self.require_reference and problem.reference is None:
            raise BadRowError(
                location,
                f"has no reference ({name_column(self.columns.reference, row)}), "
                "which require_reference=true asks for because the teacher's view shows it",
            )
        for image in problem.images if self.check_images else ():
            try:
                check_image(image)
            except ImageError as error:
                raise BadRowError(location, str(error)) from error
        return problem


class CheckedRows(NamedTuple):
    """What one pass over a source found."""

    good: array[int]
    """Row numbers of usable rows, in order."""
    bad: list[tuple[str, str]]
    """(location, reason) of the others."""
    columns: set[str]
    """Columns that are not null in at least one readable row."""


def check_rows(
    source: Source, read: Callable[[Mapping[str, Any], str], Problem], num_rows: int
) -> CheckedRows:
    """Read the first `num_rows` rows once; the second of two rows with one id is bad."""
    checked = CheckedRows(array("Q"), [], set())
    first_with: dict[str, int] = {}
    for number in range(num_rows):
        try:
            row = source[number]
            checked.columns.update(key for key, value in row.items() if value is not None)
            problem = read(row, source.location(number))
            first = first_with.setdefault(problem.id, number)
            if first != number:
                raise BadRowError(
                    problem.location, f"has the id {problem.id!r} of {source.location(first)}"
                )
        except BadRowError as bad:
            checked.bad.append((bad.location, bad.reason))
            continue
        checked.good.append(number)
    return checked


def bad_rows_message(
    path: str,
    bad: list[tuple[str, str]],
    num_rows: int | None = None,
    advice: str = "Correct them, or set on_bad_row=skip to leave such rows out and count them.",
) -> str:
    """Write the message for rows that cannot be used: the first ten and the count.

    Args:
        path: of the data set.
        bad: (location, reason) of each.
        num_rows: how many were looked at, if all were.
        advice: what to do about them.

    Example:
        >>> print(bad_rows_message("train.jsonl", [("train.jsonl:17", "has no answer (column 'answer')")], 20))
        data set train.jsonl: 1 of 20 rows cannot be used:
          train.jsonl:17: has no answer (column 'answer')
        Correct them, or set on_bad_row=skip to leave such rows out and count them.
    """
    of_all = "a row" if num_rows is None else f"{len(bad)} of {num_rows} rows"
    lines = [f"  {location}: {reason}" for location, reason in bad[:MAX_LISTED]]
    if len(bad) > MAX_LISTED:
        lines.append(f"  ... and {len(bad) - MAX_LISTED} more")
    return "\n".join([f"data set {path}: {of_all} cannot be used:", *lines, advice])


def check_columns_seen(path: str, columns: Columns, seen: set[str]) -> None:
    """Refuse a column that was asked for and is in no row; warn of one that looks like a missing default.

    A misspelt `images` would otherwise drop every image without a word.
    """
    defaults = Columns().used()
    for field, column in columns.used().items():
        if column in seen:
            continue
        near = difflib.get_close_matches(
            column, seen - set(columns.used().values()), n=1, cutoff=0.8
        )
        if column != defaults[field]:
            hint = f"Did you mean {near[0]}?" if near else "Set it to null if there is none."
            raise ValueError(
                f"data set {path}: columns.{field} is {column!r}, but no row has it. "
                f"Needed: one of {', '.join(sorted(seen))}. {hint}"
            )
        if near:
            log.warning(
                "data set %s: no row has the column %r, but there is %r. Set columns.%s=%s if that is meant.",
                path,
                column,
                near[0],
                field,
                near[0],
            )


def check_settings(on_bad_row: str, limit: int | None) -> None:
    """Refuse settings of a data set that have no meaning."""
    if on_bad_row not in get_args(OnBadRow):
        raise ValueError(
            f"data set: on_bad_row is {on_bad_row!r}. Needed: error or skip. Set one of them."
        )
    if limit is not None and limit < 1:
        raise ValueError(
            f"data set: limit is {limit}. Needed: 1 or more rows, or null for all. Correct it."
        )
