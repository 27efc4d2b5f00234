"""Ends a run after a given time, at a step's end, with a checkpoint: for clusters that kill what runs too long."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks.timer import Timer

from rlsd_lightning.step_boundary import ends_step, save_and_stop

log = logging.getLogger(__name__)


class TimeLimit(Callback):
    """Stops this start of a run when its time is up; a resumed run has the whole time again.

    Lightning's Timer counts the time of earlier starts too, and stops between micro-batches. Acts in
    on_train_batch_end; list it after the callbacks whose state the checkpoint must hold.

    Args:
        duration: DD:HH:MM:SS, counted from the start of training. It must leave time for one more step and a checkpoint.
        checkpoint_path: where the checkpoint is written.
    """

    def __init__(self, duration: str, checkpoint_path: Path) -> None:
        self._seconds = Timer(duration).time_remaining() or 0.0
        self._checkpoint_path = checkpoint_path
        self._started = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if the time is up on any rank."""
        if trainer.should_stop or not ends_step(trainer, batch_idx):
            return
        is_up = time.monotonic() - self._started >= self._seconds
        if not trainer.strategy.reduce_boolean_decision(is_up, all=False):
            return
        save_and_stop(trainer, self._checkpoint_path)
        log.info(
            "exp_manager.max_time_per_run is over: stopped after step %d of %d and saved %s.",
            trainer.global_step,
            trainer.max_steps,
            self._checkpoint_path,
        )
