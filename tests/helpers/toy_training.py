"""A real Trainer on two weights, with a loader that behaves like the RolloutLoader: sized, stateful, stepwise."""

from types import SimpleNamespace

import lightning
import torch
from lightning.pytorch import Trainer

from rlsd_lightning.placement import WHOLE


class ToyLoader:
    """Yields num_steps x num_micro_batches batches; calls on_step where rollouts would be made."""

    def __init__(self, num_steps, num_micro_batches, on_step=lambda step: None):
        self.num_steps = num_steps
        self.num_micro_batches = num_micro_batches
        self.on_step = on_step
        self.steps_done = 0
        self.place = 0

    def __len__(self):
        return self.num_steps * self.num_micro_batches

    def __iter__(self):
        for step in range(self.steps_done, self.num_steps):
            self.on_step(step + 1)
            for place in range(self.num_micro_batches):
                self.place = (place + 1) % self.num_micro_batches
                self.steps_done = step + (self.place == 0)
                yield torch.tensor([1.0, 2.0])

    def state_dict(self):
        if self.place:
            raise RuntimeError(
                f"saved after {self.place} of {self.num_micro_batches} micro-batches"
            )
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state):
        self.steps_done = state["steps_done"]


class ToyModule(lightning.LightningModule):
    """Two weights that grow by a known amount in every optimizer step: (1, 2) x learning rate 1.

    `in_training_step` is called with the batch's index, before the step is taken.
    """

    def __init__(self, in_training_step=lambda batch_idx: None, **parts):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(2))
        self.policy = SimpleNamespace(weights=self.weights, placement=WHOLE)
        self.in_training_step = in_training_step
        for name, part in parts.items():
            setattr(self, name, part)
        self.saves = []

    def training_step(self, batch, batch_idx):
        self.in_training_step(batch_idx)
        return -(self.weights * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_save_checkpoint(self, checkpoint):
        self.saves.append((self.trainer.global_step, self.weights.tolist()))


def fit(
    module,
    loader,
    callbacks,
    folder,
    resume_from=None,
    checkpointing=False,
    val_loader=None,
    validate_every=None,
):
    """Train as a run does: one epoch, K micro-batches per optimizer step; evaluate every so many micro-batches."""
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=loader.num_steps,
        max_epochs=-1,
        accumulate_grad_batches=loader.num_micro_batches,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=checkpointing,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        val_check_interval=validate_every or len(loader),
    )
    trainer.fit(module, loader, val_loader, ckpt_path=resume_from, weights_only=False)
    return trainer
