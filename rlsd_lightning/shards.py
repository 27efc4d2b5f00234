"""A checkpoint folder that every rank writes its own parts of, and that any number of ranks, of any strategy, reads.

A tensor is seen flattened, and a part of it is an interval: ZeRO-1 and -2 keep an interval of each optimizer state,
ZeRO-3 one of everything, FSDP2 some rows, which are an interval, too. Saving communicates nothing but the table of
contents, and loading reads just the intervals that a rank needs, however they were cut when they were written.

    rank00000-0.safetensors ...   the parts of each rank, in files of bounded size; a rank saves one interval of a tensor
    trainer.pt                    everything that is no tensor of the model or the optimizer, from rank zero
    index.json                    the table of contents, written last: without it a folder is no checkpoint
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

INDEX = "index.json"
TRAINER = "trainer.pt"
PARTIAL_SUFFIX = ".partial"
"""Ends the name of a checkpoint that is still being written."""
REPLACED_SUFFIX = ".replaced"
"""Ends the name of a checkpoint whose successor is about to take its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One rank's interval of a flattened tensor: to be saved, to be filled from a checkpoint, or both."""

    key: str
    """What it is: "weights/NAME" or "optimizer/STATE/NAME"."""
    shape: tuple[int, ...]
    """Of the whole tensor."""
    start: int
    """Where the interval begins among the flattened elements."""
    stop: int
    """Where it ends, exclusive."""
    read: Callable[[], Tensor]
    """Gives the elements. [stop - start]"""
    write: Callable[[Tensor], None]
    """Takes new elements. [stop - start]"""
    is_saved: bool = True
    """False: another rank, or another part of this one, saves these elements."""


def part_of(
    key: str, shape: Sequence[int], start: int, values: Tensor, *, is_saved: bool = True
) -> Part:
    """Return the part whose elements are those of a tensor, which is read and written in place.

    Args:
        key: see Part.
        shape: of the whole tensor.
        start: where these elements begin among its flattened ones.
        values: of any shape.
        is_saved: see Part.
    """
    values = values.detach()
    return Part(
        key=key,
        shape=tuple(shape),
        start=start,
        stop=start + values.numel(),
        read=values.flatten,
        write=lambda new: values.copy_(new.view(values.shape)),
        is_saved=is_saved,
    )


def write_parts(
    folder: Path, rank: int, parts: Iterable[Part], max_file_bytes: int = 1 << 30
) -> dict[str, Any]:
    """Write the parts that a rank saves; return their table of contents, one entry per part.

    Args:
        folder: exists.
        rank: whose parts they are.
        parts: those of this rank; a key comes once among those that are saved.
        max_file_bytes: a file is begun when the last one has this size; bounds the memory that saving takes.
    """
    table: dict[str, Any] = {}
    pending: dict[str, Tensor] = {}
    num_files = num_bytes = 0
    saved = [part for part in parts if part.is_saved and part.stop > part.start]
    for place, part in enumerate(saved):
        name = f"rank{rank:05d}-{num_files}.safetensors"
        values = part.read().detach().to("cpu", copy=True)
        table[part.key] = {
            "shape": list(part.shape),
            "dtype": str(values.dtype).removeprefix("torch."),
            "parts": [[name, part.start, part.stop]],
        }
        pending[part.key] = values
        num_bytes += values.nbytes
        if num_bytes >= max_file_bytes or place + 1 == len(saved):
            save_file(pending, folder / name)
            sync(folder / name)
            pending, num_bytes, num_files = {}, 0, num_files + 1
    return table


def write_index(folder: Path, tables: Sequence[Mapping[str, Any]]) -> None:
    """Join the ranks' tables and write them: from here on the folder is complete.

    Args:
        folder: holds the ranks' files.
        tables: what write_part_file returned, by rank.

    Raises:
        RuntimeError: the parts of some tensor do not cover it exactly once.
    """
    joined: dict[str, Any] = {}
    for table in tables:
        for key, entry in table.items():
            known = joined.setdefault(key, entry | {"parts": []})
            known["parts"] += entry["parts"]
    for key, entry in joined.items():
        entry["parts"].sort(key=lambda part: part[1])
        edges = [0, *(edge for _, start, stop in entry["parts"] for edge in (start, stop))]
        edges.append(math.prod(entry["shape"]))
        if edges[0::2] != edges[1::2]:
            raise RuntimeError(
                f"checkpoint: the ranks' parts of {key!r} lie at {entry['parts']}, which does not cover its "
                f"{edges[-1]} elements once. The strategy that saved it cuts tensors in a way that is not known here."
            )
    files = {path.name: path.stat().st_size for path in folder.glob("*.safetensors")}
    (folder / INDEX).write_text(json.dumps({"files": files, "tensors": joined}))
    sync(folder / INDEX)


class ShardReader:
    """Reads intervals of the tensors in a checkpoint folder.

    Args:
        folder: with an index.json.

    Raises:
        FileNotFoundError: a file that the index names is missing.
        ValueError: a file has another size than when it was written.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        self.path = folder
        self._tensors: dict[str, Any] = index["tensors"]
        self._files: dict[str, Any] = {}
        for name, size in index["files"].items():
            path = folder / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"checkpoint: {folder} lacks {name}, one of its {len(index['files'])} parts. Copy the whole "
                    "folder, or give an earlier checkpoint."
                )
            if path.stat().st_size != size:
                raise ValueError(
                    f"checkpoint: {path} has {path.stat().st_size} bytes; {size} were written. Copy it again, or give "
                    "an earlier checkpoint."
                )

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        return [key for key in self._tensors if key.startswith(prefix)]

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the whole tensor's shape."""
        return tuple(self._tensors[key]["shape"])

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the elements of an interval of the flattened tensor. [stop - start]."""
        entry = self._tensors[key]
        stop = math.prod(entry["shape"]) if stop is None else stop
        found = torch.empty(stop - start, dtype=getattr(torch, entry["dtype"]))
        for name, begins, ends in entry["parts"]:
            first, last = max(start, begins), min(stop, ends)
            if first < last:
                part = self._open(name).get_slice(key)[first - begins : last - begins]
                found[first - start : last - start] = part
        return found

    def trainer_state(self) -> dict[str, Any]:
        """Return what is no tensor of the model or the optimizer."""
        return torch.load(self.path / TRAINER, map_location="cpu", weights_only=False)

    def _open(self, name: str) -> Any:
        if name not in self._files:
            self._files[name] = safe_open(self.path / name, framework="pt")
        return self._files[name]


def sync(path: Path) -> None:
    """Make sure that a file is on disk, not only on its way there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def take_name(partial: Path, path: Path) -> None:
    """Give a complete folder its final name; what had that name goes only when the new one is there.

    A crash in between leaves both under names that `checkpoints.newest_in` knows.
    """
    replaced = path.with_name(path.name + REPLACED_SUFFIX)
    remove(replaced)
    if path.exists():
        path.rename(replaced)
    partial.rename(path)
    remove(replaced)


def remove(path: Path) -> None:
    """Delete a checkpoint of either form, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
