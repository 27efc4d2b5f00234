"""Sources on top of the `datasets` package: parquet files, hub data sets, local folders, streamed or not.

Rows are taken from Arrow as they lie on disk (memory-mapped), not through `datasets`' features: so no image is
decoded, at whatever depth it stands, and a row looks the same as its JSONL twin would.
"""

from __future__ import annotations

import glob
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet


class TableSource:
    """Rows of a memory-mapped `datasets.Dataset`."""

    def __init__(
        self, dataset: datasets.Dataset, location: Callable[[int], str], root: Path | None
    ) -> None:
        self.location = location
        self.root = root
        self._table = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._table[index : index + 1].to_pylist()[0]


class TableStream:
    """Rows of a `datasets.IterableDataset`."""

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        location: Callable[[int], str],
        root: Path | None,
    ) -> None:
        self.root = root
        self._location = location
        self._rows = dataset.with_format("arrow")

    def iterate(self, start: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (location, row) from row `start` on."""
        for index, row in enumerate(self._rows.skip(start), start=start):
            yield self._location(index), row.to_pylist()[0]


class PartLocations:
    """Names a row of several files read as one: by its file and its row there.

    Example:
        >>> locate = PartLocations([("a.parquet", 3), ("b.parquet", 2)])
        >>> locate(2), locate(3)
        ('a.parquet[2]', 'b.parquet[0]')
    """

    def __init__(self, parts: list[tuple[str, int]]) -> None:
        self._names = [name for name, _ in parts]
        self._starts = [0, *accumulate(count for _, count in parts)]

    def __call__(self, index: int) -> str:
        """Return the name of row `index`, counted over all parts."""
        part = bisect_right(self._starts, index) - 1
        return f"{self._names[part]}[{index - self._starts[part]}]"


def parquet_source(path: str) -> TableSource:
    """Read one parquet file or a glob of them by index; `datasets` caches them as Arrow files."""
    files, locate = _parquet_parts(path)
    loaded = datasets.load_dataset(
        "parquet", data_files=[str(file) for file in files], split="train"
    )
    return TableSource(loaded, locate, files[0].parent)


def parquet_stream(path: str) -> TableStream:
    """Read parquet files in order, without a cache."""
    files, locate = _parquet_parts(path)
    loaded = datasets.load_dataset(
        "parquet", data_files=[str(file) for file in files], split="train", streaming=True
    )
    return TableStream(loaded, locate, files[0].parent)


def datasets_source(
    path: str, kind: str, *, name: str | None, split: str | None, revision: str | None
) -> TableSource:
    """Read what `datasets` can load; see sources.open_source."""
    loaded = _saved(path, split) if kind == "saved" else _load(path, kind, name, split, revision)
    return TableSource(loaded, _rows_of(path, loaded.split), _root(path, kind))


def datasets_stream(
    path: str, kind: str, *, name: str | None, split: str | None, revision: str | None
) -> TableStream:
    """Stream what `datasets` can load; see sources.open_stream."""
    if kind == "saved":
        loaded = _saved(path, split).to_iterable_dataset()
    else:
        loaded = _load(path, kind, name, split, revision, streaming=True)
    return TableStream(loaded, _rows_of(path, loaded.split), _root(path, kind))


def _rows_of(path: str, split: Any) -> Callable[[int], str]:
    return partial("{}[{}]".format, f"{path}/{split}" if split else path)


def _root(path: str, kind: str) -> Path | None:
    return None if kind == "hub" else Path(path).expanduser()


def _parquet_parts(path: str) -> tuple[list[Path], PartLocations]:
    files = sorted(map(Path, glob.glob(str(Path(path).expanduser()), recursive=True)))
    if not files:
        raise FileNotFoundError(
            f"data set {path}: no file matches. Needed: at least one parquet file. Correct the pattern."
        )
    twins = len({file.name for file in files}) < len(files)
    names = [str(file) if twins else file.name for file in files]
    return files, PartLocations(
        [(n, _num_rows(file)) for n, file in zip(names, files, strict=True)]
    )


def _num_rows(file: Path) -> int:
    try:
        return pyarrow.parquet.read_metadata(file).num_rows
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"data set {file} is not a parquet file ({error}). "
            "Needed: a complete parquet file. Write it again or correct the path."
        ) from error


def _load(
    path: str,
    kind: str,
    name: str | None,
    split: str | None,
    revision: str | None,
    streaming: bool = False,
) -> Any:
    place = path if kind == "hub" else str(Path(path).expanduser())
    try:
        loaded = datasets.load_dataset(
            place, name, split=split, revision=revision, streaming=streaming
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        asked = {"name": name, "split": split, "revision": revision}
        settings = "".join(f", {key}={value}" for key, value in asked.items() if value)
        raise ValueError(
            f"data set {path}{settings} could not be loaded as a Hugging Face data set ({error}). "
            "Needed: a local file or folder, or a data set on the hub and a connection to it. "
            "Correct these settings."
        ) from error
    return loaded if split else _only_split(loaded, path)


def _saved(path: str, split: str | None) -> datasets.Dataset:
    loaded = datasets.load_from_disk(str(Path(path).expanduser()))
    if not isinstance(loaded, dict):
        if split and split != str(loaded.split):
            raise _wrong_split(path, split, [str(loaded.split)])
        return loaded
    if split is None:
        return _only_split(loaded, path)
    if split not in loaded:
        raise _wrong_split(path, split, list(loaded))
    return loaded[split]


def _only_split(loaded: Any, path: str) -> Any:
    """Take the only split; refuse to guess among several."""
    names = list(loaded)
    if len(names) != 1:
        raise _wrong_split(path, None, names)
    return loaded[names[0]]


def _wrong_split(path: str, split: str | None, names: list[str]) -> ValueError:
    return ValueError(
        f"data set {path}: split is {split or 'not set'}, but there are {', '.join(names)}. "
        "Needed: one of them. Set split."
    )
