"""Checkpoints from which a run goes on exactly: written at the end of optimizer steps, never between micro-batches."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from rlsd_lightning.step_boundary import ends_step


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, kept to the ends of optimizer steps.

    Without this, a run that resumes at a step that is a multiple of `every_n_train_steps` saves again after its first
    micro-batch, when accumulated gradients would be lost.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time, when the step is complete."""
        if ends_step(trainer, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
