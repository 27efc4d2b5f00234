"""A callback for the runs of overlap.py: when each optimizer step ended, by the wall clock."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.step_boundary import ends_step


class StepEnds(Callback):
    """Writes the seconds at which steps ended, weights handed over, as it stands behind callbacks.weight_sync.

    Args:
        path: gets a list, one number per step.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._ends: list[float] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        if ends_step(trainer, batch_idx):
            self._ends.append(time.perf_counter())

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write for overlap.py."""
        self._path.write_text(json.dumps(self._ends))
