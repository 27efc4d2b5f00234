"""Ctrl-C, SIGTERM and a failed engine end a run with a checkpoint after a whole step, and the command that goes on."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.step_boundary import ends_step, is_between_steps, save_and_stop

log = logging.getLogger(__name__)


class GracefulStop(Callback):
    """First signal: finish the step, save, stop. Second signal: stop at once. An engine that fails in training: save.

    Acts on signals during fit; the stop itself on the last micro-batch of a step (on_train_batch_end), after the
    teacher's sync. An EngineError stops every rank between two steps, where rollouts are made or weights handed over;
    it is saved there (on_exception), unless the run has not taken a step yet.

    Args:
        checkpoint_path: where the checkpoint is written.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, checkpoint_path: str) -> None:
        self._checkpoint_path = checkpoint_path
        self._asked = False
        self._first_step: int | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self.stopped = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Listen for signals."""
        self._first_step = trainer.global_step
        self._previous = {number: signal.signal(number, self._on_signal) for number in self.SIGNALS}

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Give the signals back; save what was trained, if it was the engine that failed."""
        self._restore()
        if not isinstance(exception, EngineError) or not self._can_save(trainer):
            return
        trainer.save_checkpoint(self._checkpoint_path)
        if not trainer.is_global_zero:
            return
        log.warning(
            "The rollout engine failed after step %d of %d; saved %s. To go on from there: python -m rlsd_lightning %s",
            trainer.global_step,
            trainer.max_steps,
            self._checkpoint_path,
            shlex.join(sys.argv[1:]),
        )

    def _can_save(self, trainer: lightning.Trainer) -> bool:
        """Whether every rank comes here (not so in an evaluation), between two steps, with something new."""
        if not trainer.training or self._first_step is None:
            return False
        return trainer.global_step > self._first_step and is_between_steps(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop here, if a signal came to any rank."""
        if not ends_step(trainer, batch_idx):
            return
        # A signal reaches the ranks at different times, or one of them only; all must stop after the same step.
        if not trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            return
        self.stopped = True
        save_and_stop(trainer, self._checkpoint_path)
        log.warning(
            "Stopped after step %d of %d and saved %s. To go on from there: python -m rlsd_lightning %s",
            trainer.global_step,
            trainer.max_steps,
            self._checkpoint_path,
            shlex.join(sys.argv[1:]),
        )

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._asked:
            self._restore()
            raise KeyboardInterrupt
        self._asked = True
        log.warning(
            "%s: finishing this step, then saving. Once more to stop at once.",
            signal.Signals(number).name,
        )

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
