"""Whether the run's folder can be written to and has room for its checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlsd_lightning.doctor.finding import Finding
from rlsd_lightning.models.adapters import Lora
from rlsd_lightning.planning.architecture import read_architecture
from rlsd_lightning.planning.setup import num_trainable

_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSize:
    """What a checkpoint holds, in bytes."""

    weights: int
    optimizer: int
    teacher: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.teacher


def count_parameters(
    path: str,
    revision: str | None = None,
    freeze_vision: bool = False,
    lora: Mapping[str, Any] | None = None,
) -> tuple[int, int]:
    """Return how many weights a checkpoint of a model holds, and how many are trained, without loading any.

    Args:
        path: folder or hub name.
        revision: branch, tag or commit on the hub.
        freeze_vision: the vision tower is not trained.
        lora: adapters only are trained and saved.
    """
    architecture = read_architecture(path, revision)
    num_trained = num_trainable(architecture, freeze_vision, Lora(**lora) if lora else None)
    return (architecture.num_params if lora is None else num_trained), num_trained


def checkpoint_size(
    num_saved: int, num_trained: int, dtype: torch.dtype, num_teacher_copies: int
) -> CheckpointSize:
    """Estimate a checkpoint: weights, AdamW's two moments of what is trained, copies of the teacher.

    bytes = b N + 2 b M + C b N   for N weights of b bytes, M of them trained, and C copies

    Args:
        num_saved: N.
        num_trained: M.
        dtype: of the weights; the moments have the same.
        num_teacher_copies: C, 0 or 1.

    Example:
        >>> checkpoint_size(1000, 1000, torch.float32, 1).total
        16000
    """
    size = dtype.itemsize
    return CheckpointSize(
        weights=size * num_saved,
        optimizer=2 * size * num_trained,
        teacher=size * num_saved * num_teacher_copies,
    )


def check_disk(folder: Path, size: CheckpointSize, num_kept: int) -> Finding:
    """Compare what is free with what the checkpoints of a run need at most, the one being written included.

    Args:
        folder: where runs are kept; need not exist yet.
        size: of one checkpoint.
        num_kept: checkpoints that lie there at the same time.
    """
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(
            check="disk",
            level="fault",
            seen=f"{place} cannot be written to ({error.strerror}).",
            advice="Set paths.runs to a folder of your own.",
        )
    free, needed = shutil.disk_usage(place).free, size.total * (num_kept + 1)
    seen = (
        f"{place} has {free / _GB:.2f} GB free; {num_kept + 1} checkpoints of {size.total / _GB:.2f} GB need "
        f"{needed / _GB:.2f} GB (each: weights {size.weights / _GB:.2f}, optimizer {size.optimizer / _GB:.2f}, teacher "
        f"{size.teacher / _GB:.2f})."
    )
    if free < needed:
        return Finding(
            check="disk",
            level="fault",
            seen=seen,
            advice="Free some, set paths.runs to another disk, or keep fewer (exp_manager.checkpoint_callback_params).",
        )
    if free < 1.25 * needed:
        return Finding(
            check="disk",
            level="warning",
            seen=seen,
            advice="Rollouts and logs come on top: free some.",
        )
    return Finding(check="disk", level="ok", seen=seen)
