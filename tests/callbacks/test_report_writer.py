"""The report is written however the training ends."""

import logging

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rlsd_lightning.callbacks.report_writer import ReportWriter


class Counting(LightningModule):
    def __init__(self, raise_at=None, error=RuntimeError):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.raise_at, self.error = raise_at, error

    def training_step(self, batch, batch_idx):
        if batch_idx == self.raise_at:
            raise self.error("the cause")
        return self.weight * 1.0

    def validation_step(self, batch, batch_idx):
        raise self.error("the cause")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watching(Callback):
    """Notes after which micro-batches a report appeared, and takes it away again."""

    def __init__(self, path):
        self.path, self.seen = path, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.path.exists():
            self.seen.append(batch_idx)
            self.path.unlink()


def trainer_for(folder, *callbacks):
    return Trainer(
        default_root_dir=folder,
        max_epochs=1,
        accumulate_grad_batches=2,
        limit_val_batches=0,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def loader():
    return torch.utils.data.DataLoader(range(12))


def test_the_report_is_written_when_the_training_ends(tmp_path):
    trainer_for(tmp_path, ReportWriter(tmp_path)).fit(Counting(), loader())
    assert (tmp_path / "report.html").exists()


def test_it_is_written_every_few_optimizer_steps_if_asked(tmp_path):
    watching = Watching(tmp_path / "report.html")
    trainer_for(tmp_path, ReportWriter(tmp_path, every_n_steps=2), watching).fit(
        Counting(), loader()
    )
    assert watching.seen == [3, 7, 11]  # two micro-batches a step, two steps a report


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_it_is_written_when_the_training_is_broken_off(tmp_path, error):
    ended = SystemExit if error is KeyboardInterrupt else error
    with pytest.raises(ended):
        trainer_for(tmp_path, ReportWriter(tmp_path)).fit(
            Counting(raise_at=3, error=error), loader()
        )
    assert (tmp_path / "report.html").exists()


def test_a_fault_of_the_report_does_not_hide_what_ended_the_run(tmp_path, caplog):
    writer = ReportWriter(tmp_path / "gone")
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="the cause"):
        trainer_for(tmp_path, writer).fit(Counting(raise_at=3), loader())
    assert "python -m rlsd_lightning.report" in caplog.text


def test_an_error_outside_the_training_writes_no_report(tmp_path):
    trainer = trainer_for(tmp_path, ReportWriter(tmp_path))
    trainer.limit_val_batches = 1
    with pytest.raises(RuntimeError, match="the cause"):
        trainer.validate(Counting(), loader(), verbose=False)
    assert not (tmp_path / "report.html").exists()


def test_every_zero_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every_n_steps is 0, needs 1 or more"):
        ReportWriter(tmp_path, every_n_steps=0)
