"""Checkpoints that are whole or not there at all, the search for the newest one, and reading any of them.

There are two forms: the single file of one process and DDP (Lightning's own), and the folder that strategies write
which cut the training state into parts (shards.py). Either is resumed from by any strategy on any number of ranks.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from rlsd_lightning.models import Policy
from rlsd_lightning.shards import (
    INDEX,
    PARTIAL_SUFFIX,
    REPLACED_SUFFIX,
    Part,
    ShardReader,
    part_of,
    take_name,
)

TRAINED_WEIGHTS = "trained_weights"
"""Where a checkpoint notes the names of the weights that the optimizer holds, in the optimizer's order."""


class Reader(Protocol):
    """What a checkpoint can be asked, whatever its form. Keys are "weights/NAME" and "optimizer/STATE/NAME"."""

    path: Path

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        ...

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the whole tensor's shape."""
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the elements of an interval of the flattened tensor. [stop - start]."""
        ...

    def trainer_state(self) -> dict[str, Any]:
        """Return what is no tensor of the model or the optimizer."""
        ...


def open_checkpoint(path: Path) -> Reader:
    """Open a checkpoint of either form.

    Raises:
        FileNotFoundError: there is none, or a part of it is missing.
        ValueError: a part of it is damaged.
    """
    if (path / INDEX).is_file():
        return ShardReader(path)
    if path.is_file():
        return _FileReader(path)
    raise FileNotFoundError(
        f"checkpoint: {path} is not a checkpoint. Give one that `fit` has written (runs/NAME/version_N/"
        "checkpoints/last.ckpt, a file or a folder), or checkpoint=null for the weights of model.path."
    )


@torch.no_grad()
def fill(reader: Reader, parts: Iterable[Part]) -> None:
    """Fill parts of a training state from a checkpoint.

    Raises:
        ValueError: it holds other tensors or other shapes; the first one is named, and nothing is changed.
    """
    parts = list(parts)
    held = set(reader.keys(""))
    here = f"checkpoint: {reader.path} is of another model or method: it"
    then = "Give the model, the teacher and the optimizer that it was trained with, or start a new run."
    for part in parts:
        if part.key not in held:
            raise ValueError(f"{here} does not hold {part.key!r}, which this run has. {then}")
        if reader.shape(part.key) != part.shape:
            raise ValueError(
                f"{here} holds {part.key!r} with shape {list(reader.shape(part.key))}; this run's has "
                f"{list(part.shape)}. {then}"
            )
    for part in parts:
        part.write(reader.read(part.key, part.start, part.stop))


def load_policy_weights(path: Path, policy: Policy) -> int:
    """Load the policy's weights, and nothing else, from a checkpoint of either form.

    Args:
        path: of the checkpoint.
        policy: every rank holds it whole; takes the weights in place.

    Returns:
        The optimizer steps that the checkpoint has seen.

    Raises:
        ValueError: it is the checkpoint of another model.
    """
    reader = open_checkpoint(path)
    fill(
        reader,
        [part_of(f"weights/policy.{name}", w.shape, 0, w) for name, w in saved_parameters(policy)],
    )
    return reader.trainer_state()["global_step"]


def saved_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (name, weight) of what a checkpoint of this module holds, a tied weight once, in a fixed order."""
    tied = tied_names(module)
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, nn.Parameter) and name not in tied:
            yield name, value


def tied_names(module: nn.Module) -> dict[str, str]:
    """Return the further names of weights that have several, each with the first one's name."""
    first: dict[int, str] = {}
    named = module.state_dict(keep_vars=True).items()
    names = {n: first.setdefault(id(v), n) for n, v in named if isinstance(v, nn.Parameter)}
    return {name: other for name, other in names.items() if name != other}


def saved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return what a checkpoint of this module holds beside weights; evaluators start afresh and are left out."""
    return {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if not isinstance(value, nn.Parameter) and not name.startswith("metrics.")
    }


def checkpoint_bytes(module: nn.Module) -> int:
    """Estimate what a checkpoint of this module takes on disk: its weights, and AdamW's two moments of what is trained.

    Args:
        module: before a strategy has cut its weights up.
    """
    saved = [weight for _, weight in saved_parameters(module)]
    return sum(w.nbytes * (3 if w.requires_grad else 1) for w in saved)


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name and renames it when it is complete and on disk.

    Lightning's own way builds the file in memory, writes it to the system's temporary folder and moves it: from
    another file system that is a copy, and a kill in the middle leaves half a checkpoint under the final name.
    Strategies that cut the training state into parts write folders and do not come here.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save on a local or network file system.

        Args:
            checkpoint: what the trainer wants to keep.
            path: the final name.
            storage_options: always None here.
        """
        if storage_options is not None:
            raise TypeError(
                "WholeFileCheckpointIO takes no storage_options: it writes to mounted file systems."
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir():
            take_name(partial, path)
        else:
            partial.replace(path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a file, or a folder as if it had been a file."""
        if (Path(path) / INDEX).is_file():
            return _as_file(ShardReader(Path(path)))
        return super().load_checkpoint(path, map_location, weights_only)


def newest_in(folder: Path) -> Path | None:
    """Return the checkpoint that was written last and is complete, or None.

    Args:
        folder: a run's checkpoints. Files named best* are for evaluation: training does not go on from them.
    """
    paths = [
        path
        for pattern in ("*.ckpt", f"*.ckpt{REPLACED_SUFFIX}")
        for path in folder.glob(pattern)
        if not path.name.startswith("best") and is_complete(path)
    ]
    return newest_of(paths)


def newest_of(paths: Iterable[Path]) -> Path | None:
    """Return the one of several complete checkpoints that was written last, or None."""
    return max(paths, key=_written_at, default=None)


def is_complete(path: Path) -> bool:
    """Whether a checkpoint was written to its end: torch.save ends a file with the zip directory."""
    return (path / INDEX).is_file() if path.is_dir() else zipfile.is_zipfile(path)


def _written_at(path: Path) -> int:
    return (path / INDEX if path.is_dir() else path).stat().st_mtime_ns


class _FileReader:
    """Reads a checkpoint file as a folder is read; tensors are read from disk when they are used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
        self._tensors = {f"weights/{name}": w for name, w in self._state["state_dict"].items()}
        for index, state in self._optimizer["state"].items():
            name = self._state[TRAINED_WEIGHTS][index]
            self._tensors |= {f"optimizer/{k}/{name}": v for k, v in state.items() if v.dim()}

    def keys(self, prefix: str) -> list[str]:
        """See Reader."""
        return [key for key in self._tensors if key.startswith(prefix)]

    def shape(self, key: str) -> tuple[int, ...]:
        """See Reader."""
        return tuple(self._tensors[key].shape)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """See Reader."""
        return self._tensors[key].flatten()[start:stop]

    def trainer_state(self) -> dict[str, Any]:
        """See Reader."""
        state = {
            k: v for k, v in self._state.items() if k not in ("state_dict", "optimizer_states")
        }
        scalars = next(iter(self._optimizer["state"].values()), {})
        return state | {
            "buffers": self._state["state_dict"],
            "optimizer_groups": [
                {key: value for key, value in group.items() if key != "params"}
                for group in self._optimizer["param_groups"]
            ],
            "optimizer_scalars": {key: value for key, value in scalars.items() if not value.dim()},
        }

    @property
    def _optimizer(self) -> dict[str, Any]:
        (state,) = self._state["optimizer_states"]
        return state


def _as_file(reader: ShardReader) -> dict[str, Any]:
    """Return what a checkpoint folder would have been as a file."""
    state = reader.trainer_state()
    weights = {
        key.removeprefix("weights/"): reader.read(key).view(reader.shape(key))
        for key in reader.keys("weights/")
    }
    weights |= state.pop("buffers")
    weights |= {name: weights[first] for name, first in state.pop("tied").items()}
    names = {key.split("/", 2)[1] for key in reader.keys("optimizer/")}
    scalars, (group,) = state.pop("optimizer_scalars"), state.pop("optimizer_groups")
    per_weight = {
        index: {
            key: reader.read(f"optimizer/{key}/{name}").view(reader.shape(f"weights/{name}"))
            for key in names
        }
        | {key: value.clone() for key, value in scalars.items()}
        for index, name in enumerate(state[TRAINED_WEIGHTS])
    }
    optimizer = {"state": per_weight, "param_groups": [group | {"params": list(per_weight)}]}
    return state | {"state_dict": weights, "optimizer_states": [optimizer]}
