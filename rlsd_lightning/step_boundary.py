"""Where an optimizer step ends among the micro-batches that Lightning counts, and how a run stops there."""

from __future__ import annotations

from pathlib import Path

import lightning


def ends_step(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Say whether this micro-batch was the last of its optimizer step.

    Args:
        trainer: K is its accumulate_grad_batches.
        batch_idx: as Lightning hands it to on_train_batch_end, counted from 0.
    """
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def is_between_steps(trainer: lightning.Trainer) -> bool:
    """Say whether every micro-batch that training has begun belongs to an optimizer step that was taken.

    Args:
        trainer: in training; K is its accumulate_grad_batches.
    """
    num_begun = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    return num_begun == trainer.global_step * trainer.accumulate_grad_batches


def save_and_stop(trainer: lightning.Trainer, path: str | Path) -> None:
    """End a run at the end of the step it is in, with a checkpoint from which it goes on exactly.

    Args:
        trainer: at the end of an optimizer step.
        path: where the checkpoint is written.
    """
    trainer.should_stop = True
    if trainer.global_step < trainer.max_steps:
        trainer.limit_val_batches = 0  # Lightning would evaluate before it stops
    trainer.save_checkpoint(path)
