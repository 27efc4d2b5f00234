"""Rows of a data set with their locations: from JSONL, JSON, parquet and Hugging Face `datasets`.

A source knows nothing of problems: it gives plain dicts, images undecoded. Locations are written for people:
"train.jsonl:17" is line 17 of a text file, counted from 1 as editors do; "train.parquet[17]" is the row that
Python calls 17. `rlsd_lightning.data.tables` holds what needs the `datasets` package.
"""

from __future__ import annotations

import difflib
import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILE_KINDS = {".jsonl": "jsonl", ".json": "json", ".parquet": "parquet"}


class BadRowError(ValueError):
    """One row that cannot be used: where it stands and why."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}")
        self.location = location
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadRowError], tuple[str, str]]:
        return type(self), (self.location, self.reason)


class Source(Protocol):
    """Rows by index, without all of them in memory."""

    root: Path | None
    """The folder that relative image paths start from; None on the hub."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one row; a row that cannot be read is a BadRowError."""
        ...

    def location(self, index: int) -> str:
        """Name the row for a message."""
        ...


class Stream(Protocol):
    """Rows one after another, for data sets that are not to be downloaded whole."""

    root: Path | None
    """The folder that relative image paths start from; None on the hub."""

    def iterate(self, start: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (location, row) from row `start` on."""
        ...


class JsonLines:
    """A file with one JSON object a line, read by seeking; blank lines are no rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.parent
        self._offsets = array("Q")
        self._line_numbers = array("Q")
        with path.open("rb") as file:
            offset = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    self._offsets.append(offset)
                    self._line_numbers.append(number)
                offset += len(line)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as file:  # opened anew: a shared handle breaks in forked workers
            file.seek(self._offsets[index])
            line = file.readline()
        try:
            row = json.loads(line)
        except ValueError as error:  # broken JSON, or bytes that are not UTF-8
            raise BadRowError(self.location(index), f"is not JSON ({error})") from error
        return _checked_object(row, self.location(index))

    def location(self, index: int) -> str:
        """Name the line, counted from 1."""
        return f"{self.path.name}:{self._line_numbers[index]}"


class JsonList:
    """A JSON file that holds one list of objects; it is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.parent
        try:
            rows = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(
                f"data set {path} is not JSON ({error}). Needed: one list of objects. "
                "Correct it; a file with one object a line must be named .jsonl."
            ) from error
        if not isinstance(rows, list):
            raise ValueError(
                f"data set {path} holds {_json_type(rows)}. Needed: one list of objects, a row each. "
                "Write the rows as a list, or one a line into a .jsonl file."
            )
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _checked_object(self._rows[index], self.location(index))

    def location(self, index: int) -> str:
        """Name the item, counted from 0."""
        return f"{self.path.name}[{index}]"


def open_source(
    path: str, *, name: str | None = None, split: str | None = None, revision: str | None = None
) -> Source:
    """Open a data set for reading by index.

    Args:
        path: a .jsonl, .json or .parquet file, a glob of parquet files, a folder that `datasets` can load (of
            parquet files, say) or has saved, or a data set's name on the Hugging Face hub.
        name: the configuration, where `datasets` loads.
        split: the split, where `datasets` loads; needed if there are several.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: nothing is there; the message lists names that are near.
        ValueError: no kind of data set that is known, or a setting that has no effect on this kind.
    """
    kind = kind_of(path)
    _refuse_unused(path, kind, name=name, split=split, revision=revision)
    if kind == "jsonl":
        return JsonLines(Path(path).expanduser())
    if kind == "json":
        return JsonList(Path(path).expanduser())
    from rlsd_lightning.data import tables  # here, as importing datasets takes a second

    if kind == "parquet":
        return tables.parquet_source(path)
    return tables.datasets_source(path, kind, name=name, split=split, revision=revision)


def open_stream(
    path: str, *, name: str | None = None, split: str | None = None, revision: str | None = None
) -> Stream:
    """Open a data set for reading in order only; arguments and errors as in open_source."""
    kind = kind_of(path)
    if kind in ("jsonl", "json"):
        raise ValueError(
            f"data set {path} cannot be streamed: it is a local {kind.upper()} file, which is read row by row anyway. "
            "Needed: parquet or a Hugging Face data set. Use rlsd_lightning.data.ProblemDataset."
        )
    _refuse_unused(path, kind, name=name, split=split, revision=revision)
    from rlsd_lightning.data import tables  # here, as importing datasets takes a second

    if kind == "parquet":
        return tables.parquet_stream(path)
    return tables.datasets_stream(path, kind, name=name, split=split, revision=revision)


def kind_of(path: str) -> str:
    """Tell how `path` is to be read: "jsonl", "json", "parquet", "saved", "folder" or "hub".

    "saved" is a folder written by `datasets`' save_to_disk. Any other folder is left to its load_dataset, which
    tells splits apart by file name, so that a test file beside the training files is never read as training data.

    Example:
        >>> kind_of("someone/their-data")
        'hub'
    """
    place = Path(path).expanduser()
    if any(char in path for char in "*?["):
        if not path.endswith(".parquet"):
            raise _unknown(path, "is a pattern that does not end in .parquet")
        return "parquet"
    if place.is_dir():
        saved = any((place / f"dataset_{what}.json").is_file() for what in ("info", "dict"))
        return "saved" if saved else "folder"
    if place.suffix in _FILE_KINDS:
        if not place.is_file():
            raise _missing(place)
        return _FILE_KINDS[place.suffix]
    if place.is_file():
        raise _unknown(path, f"is a file ending in {place.suffix!r}")
    if _HUB_NAME.fullmatch(path) and not (place.parent.name and place.parent.is_dir()):
        return "hub"
    raise _missing(place)


def _refuse_unused(path: str, kind: str, **settings: str | None) -> None:
    used = {"hub": {"name", "split", "revision"}, "folder": {"name", "split"}, "saved": {"split"}}
    idle = [key for key, value in settings.items() if value and key not in used.get(kind, set())]
    if idle:
        raise ValueError(
            f"{' and '.join(f'data.{key}={settings[key]}' for key in idle)}: has no effect on {path}, "
            f"which is read as {kind}. Needed there: no such setting. Set it to null, or correct the path."
        )


def _missing(place: Path) -> FileNotFoundError:
    """Name what is there instead: near misses in the folder, or the first folder that is missing."""
    parent = place.parent
    if not parent.is_dir():
        found = f"there is no folder {parent} either"
    else:
        names = sorted(item.name for item in parent.iterdir())
        near = difflib.get_close_matches(place.name, names, n=5, cutoff=0.5)
        found = f"{parent} holds {_listing(near or names[:5])}"
    return FileNotFoundError(
        f"data set {place} does not exist; {found}. "
        "Needed: a .jsonl, .json or .parquet file, a folder, or a name on the Hugging Face hub. Correct the path."
    )


def _listing(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"


def _unknown(path: str, what: str) -> ValueError:
    return ValueError(
        f"data set {path} {what}, which cannot be read. "
        "Needed: .jsonl, .json, .parquet, a folder, or a name on the Hugging Face hub. Convert it to JSONL."
    )


def _checked_object(row: Any, location: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadRowError(location, f"is {_json_type(row)}, not an object with columns")
    return row


def _json_type(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")
