"""Where an optimizer step ends among the micro-batches that Lightning counts."""

from __future__ import annotations

import lightning


def ends_step(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Say whether this micro-batch was the last of its optimizer step.

    Args:
        trainer: K is its accumulate_grad_batches.
        batch_idx: as Lightning hands it to on_train_batch_end, counted from 0.
    """
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0
