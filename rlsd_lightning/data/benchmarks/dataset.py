"""What the benchmarks' data sets share: opening a hub data set or a local copy, and checking every row before the run."""

from __future__ import annotations

import glob
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from rlsd_lightning.data.columns import Columns, row_to_problem
from rlsd_lightning.data.images import ImageError, check_image
from rlsd_lightning.data.row_checks import bad_rows_message, check_rows, check_settings
from rlsd_lightning.data.sources import BadRowError, Source, kind_of, open_source
from rlsd_lightning.spelling import did_you_mean
from rlsd_lightning.types import Problem

Row = Mapping[str, Any]

_ADVICE = "Mend the copy, or download the published data set anew: scores over a part of it compare with nothing."


class BenchmarkDataset(Dataset[Problem]):
    """Problems by index, in the order of the published rows; one bad row refuses the data set.

    Args:
        path: names the data set in messages.
        source: its rows.
        columns: from a row to the columns of a Problem (id, problem, answer, images, kind, reference); what else it
            returns goes to `extra`.
        limit: use the first so many rows only; None for all.

    Raises:
        ValueError: rows that cannot be used, all of them in one message, or no row at all.
    """

    def __init__(
        self, path: str, source: Source, columns: Callable[[Row], Row], limit: int | None
    ) -> None:
        check_settings("error", limit)
        self._source, self._columns = source, columns
        self._num_rows = len(source) if limit is None else min(limit, len(source))
        checked = check_rows(source, self._checked, self._num_rows)
        if checked.bad:
            raise ValueError(bad_rows_message(path, checked.bad, self._num_rows, _ADVICE))
        if not self._num_rows:
            raise ValueError(
                f"data set {path} has no rows. Needed: the published ones. Correct the path or download it anew."
            )

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: int) -> Problem:
        row = range(self._num_rows)[index]
        return self._problem(self._source[row], self._source.location(row))

    def _problem(self, row: Row, location: str) -> Problem:
        try:
            columns = self._columns(row)
        except FieldError as error:
            raise BadRowError(location, str(error)) from error
        return row_to_problem(columns, Columns(), location, self._source.root)

    def _checked(self, row: Row, location: str) -> Problem:
        problem = self._problem(row, location)
        for image in problem.images:
            try:
                check_image(image)
            except ImageError as error:
                raise BadRowError(location, str(error)) from error
        return problem


class FieldError(ValueError):
    """A published field that a row lacks or that holds something else."""


def text_field(row: Row, name: str) -> str:
    """Return a field that every row must have as text; numbers that name something become text.

    Raises:
        FieldError: it is missing, null, blank, or no text.

    Example:
        >>> text_field({"pid": 7}, "pid")
        '7'
    """
    value = present(row, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        there = f"is {value!r}" if name in row else f"is not among {', '.join(row) or 'none'}"
        raise FieldError(f"needs text in the published field {name!r}, which {there}")
    return value


def present(row: Row, name: str) -> Any:
    """Return a field's value; None where it is missing, null or not a number (as parquet writers store null).

    Example:
        >>> present({"precision": float("nan")}, "precision") is None
        True
    """
    value = row.get(name)
    return None if isinstance(value, float) and math.isnan(value) else value


def without(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a row that hold something, except for some.

    Example:
        >>> without({"id": 1, "level": 2, "solution": None}, ["id"])
        {'level': 2}
    """
    return {
        name: present(row, name)
        for name in row
        if name not in names and present(row, name) is not None
    }


def open_published(
    path: str,
    split: str | None,
    published_splits: Sequence[str],
    *,
    revision: str | None = None,
    names: Sequence[str] = (),
) -> Source:
    """Open a benchmark's rows, wherever they are, as one source.

    Args:
        path: a name on the hub, a folder (of parquet files as on the hub, or as `datasets` saves), or a file (parquet, a
            glob of parquet, JSONL, a JSON list).
        split: of hub or folder; None for the published ones. A file is its own split.
        published_splits: those that are read where no split is chosen.
        revision: branch, tag or commit on the hub.
        names: configurations, read one after the other; on disk each is a folder of its own, or all rows lie together.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it cannot be read, or a setting has no effect on it.
    """
    kind = kind_of(path)
    splits = list(published_splits) if split is None else [split]
    if kind == "hub":
        wanted = [(name, each) for name in names or [None] for each in splits]
        parts = [open_source(path, name=n, split=s, revision=revision) for n, s in wanted]
        return Joined(parts, [name or "" for name, _ in wanted], None)
    folder = Path(path).expanduser()
    if revision is not None or kind not in ("folder", "saved"):
        return open_source(path, split=split, revision=revision)
    if kind == "saved":
        has_splits = (folder / "dataset_dict.json").is_file()
        parts = [open_source(path, split=s) for s in (splits if has_splits else [split])]
        return Joined(parts, [""] * len(parts), folder)
    if any((folder / name).is_dir() for name in names):
        missing = [name for name in names if not (folder / name).is_dir()]
        if missing:
            raise ValueError(
                f"data set {path} has no folder {', '.join(missing)}. Needed: one for each of the subjects. Add what is "
                f"missing, or set subjects to those that are there."
            )
        parts = [open_published(str(folder / name), split, published_splits) for name in names]
        return Joined(parts, names, folder)
    return Joined([_split_of(folder, s) for s in splits], [""] * len(splits), folder)


def _split_of(folder: Path, split: str) -> Source:
    """Open a split of a folder of parquet files: by their names as on the hub, else as `datasets` tells them apart.

    Where no README says otherwise, `datasets` takes files named dev-* for the validation split, too.
    """
    for place in (folder, folder / "data"):
        if any(place.glob(f"{split}-*.parquet")):
            return open_source(f"{glob.escape(str(place))}/{split}-*.parquet")
    return open_source(str(folder), split=split)


class Joined:
    """Several sources as one.

    Args:
        parts: in order.
        labels: what tells each part's locations from the others'; empty for nothing.
        root: the folder that relative image paths start from.
    """

    def __init__(self, parts: Sequence[Source], labels: Sequence[str], root: Path | None) -> None:
        self.root = root
        self._parts, self._labels = list(parts), list(labels)
        self._starts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, row = self._find(index)
        return self._parts[number][row]

    def location(self, index: int) -> str:
        """Name the row as its part does, behind the part's label."""
        number, row = self._find(index)
        label = self._labels[number]
        return f"{label}: {self._parts[number].location(row)}".removeprefix(": ")

    def _find(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]


class Selected:
    """Some rows of a source.

    Args:
        source: where they are.
        indices: which, in this order.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.root = source.root
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[self._indices[index]]

    def location(self, index: int) -> str:
        """Name the row as the source does."""
        return self._source.location(self._indices[index])


def check_subjects(owner: str, subjects: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return the chosen subjects, or all that are known where none is chosen.

    Args:
        owner: the data set whose argument this is, for the message.
        subjects: chosen ones; None for all.
        known: all there are.

    Raises:
        ValueError: a subject that does not exist, or an empty choice.

    Example:
        >>> check_subjects("MMMU", None, ["Art", "Music"])
        ['Art', 'Music']
    """
    chosen = (
        list(known)
        if subjects is None
        else [subjects]
        if isinstance(subjects, str)
        else list(subjects)
    )
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(
            f"{owner}: subjects is {subjects!r}, but it must be null for all, or some of {', '.join(known)}. "
            f"{did_you_mean(unknown[0], known) if unknown else 'Choose at least one.'}".rstrip()
        )
    return chosen


def select(source: Source, is_chosen: Callable[[Row], bool]) -> Source:
    """Return the rows that are chosen; one that cannot be read is kept, to be met where rows are checked."""

    def keep(index: int) -> bool:
        try:
            return is_chosen(source[index])
        except BadRowError:
            return True

    return Selected(source, [index for index in range(len(source)) if keep(index)])
