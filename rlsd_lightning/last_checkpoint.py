"""Saves where a run ends, and makes sure at the start that there is room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.checkpoints import checkpoint_bytes


class LastCheckpoint(Callback):
    """Writes the checkpoint of the last step, whatever the other ones are.

    Acts in setup, and in on_train_end: while every rank still has its part of the training state.

    Args:
        path: where it is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Look at the disk before anything is sampled.

        Raises:
            ValueError: it has no room for one more checkpoint.
        """
        if stage != "fit":
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(self._path.parent).free, checkpoint_bytes(pl_module)
        if free < needed:
            raise ValueError(
                f"exp_manager.exp_dir: {self._path.parent} has {free / 1e9:.1f} GB free, and a checkpoint of this run takes "
                f"about {needed / 1e9:.1f} GB. Free some, set paths.runs to another disk, or train adapters only "
                "(model.lora)."
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save if the run has reached its last step, not if it was stopped."""
        if trainer.global_step >= trainer.max_steps:
            trainer.save_checkpoint(self._path)
