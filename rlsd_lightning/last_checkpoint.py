"""Saves where a run ends: inside `fit`, while every rank still has its part of the training state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback


class LastCheckpoint(Callback):
    """Writes the checkpoint of the last step, whatever the other ones are. Acts in on_train_end.

    Args:
        path: where it is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save if the run has reached its last step, not if it was stopped."""
        if trainer.global_step >= trainer.max_steps:
            trainer.save_checkpoint(self._path)
