"""A data set of Problems, checked row by row before anything is trained on it.

Checking costs one pass over rows and image headers; it is what turns "a bad row in the middle of the night" into
one message at the start. Only row numbers are kept: problems are read anew when they are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from rlsd_lightning.data.columns import parse_columns, row_to_problem
from rlsd_lightning.data.row_checks import (
    MAX_LISTED,
    OnBadRow,
    RowReader,
    bad_rows_message,
    check_columns_seen,
    check_rows,
    check_settings,
)
from rlsd_lightning.data.sources import BadRowError, open_source, open_stream
from rlsd_lightning.types import Problem

log = logging.getLogger(__name__)


class ProblemDataset(Dataset[Problem]):
    """Problems by index, in the order of the data set.

    Args:
        path: see sources.open_source.
        name: configuration of a Hugging Face data set.
        split: split of a Hugging Face data set.
        revision: branch, tag or commit on the hub.
        columns: the fields of `Columns`; those left out keep their own names.
        image_root: the folder that relative image paths start from; by default the data set's own.
        on_bad_row: "error" lists the bad rows and stops, "skip" leaves them out and counts them.
        check_images: whether every image file is opened and verified; otherwise it must only exist.
        require_reference: whether a row without reference is a bad row.
        limit: look at the first so many rows only.

    Attributes:
        skipped: (location, reason) of each row left out.

    Raises:
        ValueError: there are bad rows and on_bad_row is "error", or no row is left.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        split: str | None = None,
        revision: str | None = None,
        columns: Mapping[str, Any] | None = None,
        image_root: str | None = None,
        on_bad_row: OnBadRow = "error",
        check_images: bool = True,
        require_reference: bool = False,
        limit: int | None = None,
    ) -> None:
        check_settings(on_bad_row, limit)
        self._source = open_source(path, name=name, split=split, revision=revision)
        self._read = RowReader(
            columns=parse_columns(columns),
            root=Path(image_root).expanduser() if image_root else self._source.root,
            check_images=check_images,
            require_reference=require_reference,
        )
        num_rows = len(self._source) if limit is None else min(limit, len(self._source))
        checked = check_rows(self._source, self._read, num_rows)
        self._rows, self.skipped = checked.good, checked.bad
        if self.skipped and on_bad_row == "error":
            raise ValueError(bad_rows_message(path, self.skipped, num_rows))
        if not self._rows:
            raise ValueError(
                f"data set {path} has no usable row among {num_rows}. Needed: at least one. "
                + (
                    f"The first fault is {': '.join(self.skipped[0])}."
                    if self.skipped
                    else "Fill it."
                )
            )
        check_columns_seen(path, self._read.columns, checked.columns)
        if self.skipped:
            log.warning("data: left out %d of %d rows of %s.", len(self.skipped), num_rows, path)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Problem:
        row = self._rows[index]
        return row_to_problem(
            self._source[row], self._read.columns, self._source.location(row), self._read.root
        )


class StreamingProblems:
    """Problems in the order of a data set that is not downloaded whole; bad rows are met on the way.

    Duplicate ids are not looked for, as that would take memory without bound.

    Args: as ProblemDataset.

    Attributes:
        skipped: (location, reason) of the first rows left out.
        num_skipped: how many rows were left out.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        split: str | None = None,
        revision: str | None = None,
        columns: Mapping[str, Any] | None = None,
        image_root: str | None = None,
        on_bad_row: OnBadRow = "error",
        check_images: bool = True,
        require_reference: bool = False,
        limit: int | None = None,
    ) -> None:
        check_settings(on_bad_row, limit)
        self._path, self._on_bad_row, self._limit = path, on_bad_row, limit
        self._stream = open_stream(path, name=name, split=split, revision=revision)
        self._read = RowReader(
            columns=parse_columns(columns),
            root=Path(image_root).expanduser() if image_root else self._stream.root,
            check_images=check_images,
            require_reference=require_reference,
        )
        self.skipped: list[tuple[str, str]] = []
        self.num_skipped = 0

    def iterate(self, start: int = 0) -> Iterator[tuple[int, Problem]]:
        """Yield problems, each with the row number from which iteration goes on after it.

        Args:
            start: row to begin with, bad rows counted: the number that came with the last problem.
        """
        for number, (location, row) in enumerate(self._stream.iterate(start), start=start):
            if self._limit is not None and number >= self._limit:
                return
            try:
                problem = self._read(row, location)
            except BadRowError as bad:
                self._leave_out(bad)
                continue
            yield number + 1, problem

    def _leave_out(self, bad: BadRowError) -> None:
        if self._on_bad_row == "error":
            raise ValueError(bad_rows_message(self._path, [(bad.location, bad.reason)])) from bad
        self.num_skipped += 1
        if len(self.skipped) < MAX_LISTED:
            self.skipped.append((bad.location, bad.reason))
            log.warning("data: left out %s.", bad)
