"""The two-phase schedule: RLSD's evidence weight decays until what is left is plain GRPO."""

from __future__ import annotations

from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.callbacks.lambda_control import LambdaControl, refuse_two_schedules
from rlsd_lightning.credit import lambda_at


class LambdaDecay(Callback):
    """Sets `credit.lambda_` before the rollouts of every optimizer step are made.

    Acts after on_train_start and after the last micro-batch of each step (on_train_batch_end), so the value stands
    before the loader decides whether the teacher's view is needed. A function of the step and of what alarms have left
    of lambda (checkpointed): a resumed run finds its lambda again.

    Args:
        peak: lambda during the hold phase, in [0, 1]. RLSD's launch script: 0.5.
        warmup_steps: steps from 0 to the peak.
        hold_steps: steps at the peak.
        decay_steps: steps from the peak to 0; RLSD's launch script: 60.
        shape: of the decay.
    """

    def __init__(
        self,
        peak: float,
        warmup_steps: int,
        hold_steps: int,
        decay_steps: int,
        shape: Literal["linear", "cosine", "step"] = "linear",
    ) -> None:
        if not 0 <= peak <= 1:
            raise ValueError(f"callbacks.lambda_decay.peak is {peak}. Set it in [0, 1].")
        self.lambda_control = LambdaControl()
        self._schedule = {
            "peak": peak,
            "warmup_steps": warmup_steps,
            "hold_steps": hold_steps,
            "decay_steps": decay_steps,
            "shape": shape,
        }
        lambda_at(
            1, **self._schedule
        )  # a fault in the schedule shows here, not in the middle of a run

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Refuse a second schedule before anything is computed."""
        refuse_two_schedules(trainer.callbacks)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Set the lambda of the first step, or of the first after a resume."""
        self.lambda_control.start(pl_module.credit)
        self._set(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the lambda of the step to come."""
        self._set(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what alarms have left of lambda."""
        return self.lambda_control.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.lambda_control.load_state_dict(state_dict)

    def _set(self, trainer: lightning.Trainer) -> None:
        self.lambda_control.write(lambda_at(trainer.global_step + 1, **self._schedule))
