"""Policy -> teacher after every optimizer step, as the teacher's own rule says."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.step_boundary import ends_step


class TeacherSync(Callback):
    """Lets the teacher follow the policy.

    Acts on the last micro-batch of a step (on_train_batch_end), after the optimizer step and before a checkpoint is
    written, so that the checkpoint holds the teacher of the next step.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Call teacher.after_step once per optimizer step."""
        if ends_step(trainer, batch_idx):
            pl_module.teacher.after_step(pl_module.policy, trainer.global_step)
