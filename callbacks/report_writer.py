"""Writes report.html when training ends, whichever way it ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn

from rlsd_lightning.report import write_report

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

log = logging.getLogger(__name__)


class ReportWriter(Callback):
    """Builds the run folder's report, on rank zero.

    Works in on_fit_end, in on_exception (Ctrl-C included) and, if asked, in on_train_batch_end every few
    steps. List it after the callbacks whose files it reads.

    Args:
        run_dir: the run's folder.
        every_n_steps: write it during the training too, every n-th step; None: only at the end.
    """

    def __init__(self, run_dir: str | Path, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(
                f"report_writer: every_n_steps is {every_n_steps}, needs 1 or more. "
                "Set it to null to write the report only at the end."
            )
        self.run_dir = Path(run_dir)
        self.every_n_steps = every_n_steps
        self._step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the report of the run so far, after an optimizer step's last micro-batch."""
        step = trainer.global_step
        if self.every_n_steps is None or not trainer.is_global_zero or step == self._step:
            return
        self._step = step
        if step % self.every_n_steps == 0:
            write_report(self.run_dir)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report of the whole run."""
        if trainer.is_global_zero:
            log.info("Report: %s", write_report(self.run_dir))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the report of what was reached; a fault in it must not hide the one that ended the run."""
        if not trainer.is_global_zero or trainer.state.fn != TrainerFn.FITTING:
            return
        try:
            log.info("Report: %s", write_report(self.run_dir))
        except Exception:
            log.exception(
                "The report of %s could not be written. Once the fault above is known, build it with: "
                "python -m rlsd_lightning.report %s",
                self.run_dir,
                self.run_dir,
            )
