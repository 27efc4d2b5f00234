"""Policy -> rollout engine after every optimizer step."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.step_boundary import ends_step
from rlsd_lightning.weights import named_weights


class WeightSync(Callback):
    """Hands the policy's weights to an engine that keeps a copy; an engine that shares them is always current.

    Acts before the first rollout (on_train_start, so a resumed run too) and on the last micro-batch of a step
    (on_train_batch_end), before the loader makes the next rollouts.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start from the policy's weights as they are after a resume."""
        self._sync(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Hand the new weights over."""
        if ends_step(trainer, batch_idx):
            self._sync(trainer, pl_module)

    def _sync(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if not pl_module.engine.shares_policy_weights:
            pl_module.engine.load_weights(named_weights(pl_module.policy), trainer.global_step)
