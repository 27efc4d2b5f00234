"""A benchmark's rows as one source, wherever they are: on the hub, in folders of a local copy, in files."""

from __future__ import annotations

import glob
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from rlsd_lightning.data.benchmarks.fields import Row
from rlsd_lightning.data.sources import BadRowError, Source, kind_of, open_source
from rlsd_lightning.spelling import did_you_mean


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


def select(
    path: str, source: Source, subject_of: Callable[[Row], str], subjects: Sequence[str]
) -> Source:
    """Return the rows of some subjects, in the order of the source.

    Args:
        path: names the data set in messages.
        source: all rows; one that cannot be read is kept, to be met where rows are checked.
        subject_of: tells a row's subject.
        subjects: which are wanted.

    Raises:
        ValueError: a subject without any row.
    """
    indices, found = [], set()
    for index in range(len(source)):
        try:
            subject = subject_of(source[index])
        except BadRowError:
            indices.append(index)
            continue
        if subject in subjects:
            indices.append(index)
            found.add(subject)
    missing = [subject for subject in subjects if subject not in found]
    if missing:
        raise ValueError(
            f"data set {path} has no row of {', '.join(missing)}. Needed: at least one of every chosen subject. Leave such "
            f"subjects out, or download the data set anew."
        )
    return Selected(source, indices)


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
    wanted = known if subjects is None else subjects
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(
            f"{owner}: subjects is {subjects!r}, but it must be null for all, or some of {', '.join(known)}. "
            f"{did_you_mean(unknown[0], known) if unknown else 'Choose at least one.'}".rstrip()
        )
    return chosen
