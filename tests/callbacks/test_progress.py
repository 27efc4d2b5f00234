"""The progress bar under a real Trainer, with and without a terminal."""

import io
import sys

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from rlsd_lightning.callbacks.progress import RLSDProgressBar

STEPS, MICRO_BATCHES = 5, 3


class Logging(LightningModule):
    """Logs what the training logs, in the last micro-batch of each step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        if (batch_idx + 1) % MICRO_BATCHES == 0:
            step = self.trainer.global_step + 1
            self.log_dict(
                {"rollout/reward_mean": 0.1 * step, "rollout/accuracy": 0.5, "credit/lambda": 0.25}
            )
            self.log_dict(
                {"credit/clipped_fraction": 0.031, "time/tokens_per_s": 1234.0, "loss/policy": 7.0}
            )
        return {"loss": self.weight * 1.0}

    def validation_step(self, batch, batch_idx):
        self.log("val/shapes/accuracy", 0.75)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fit(bar, folder, steps=STEPS, resume_from=None):
    trainer = Trainer(
        default_root_dir=folder,
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=MICRO_BATCHES,
        val_check_interval=STEPS * MICRO_BATCHES,
        num_sanity_val_steps=1,
        log_every_n_steps=1,
        callbacks=[bar],
        accelerator="cpu",
        logger=CSVLogger(folder),
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(range(2 * STEPS * MICRO_BATCHES))
    trainer.fit(Logging(), loader, torch.utils.data.DataLoader(range(2)), ckpt_path=resume_from)
    return trainer


def lines_of(text):
    return [line for line in text.splitlines() if line.startswith("step")]


def test_a_log_file_gets_whole_lines_every_few_steps(tmp_path, capsys):
    fit(RLSDProgressBar(line_every_n_steps=2), tmp_path)
    output = capsys.readouterr().out
    lines = lines_of(output)
    assert "\r" not in output
    assert [line.split("  ")[0] for line in lines] == [
        "step 1/5",
        "step 2/5",
        "step 4/5",
        "step 5/5",
        "step 5: shapes/accuracy 0.75",
    ]
    assert "step 4/5  reward 0.400  acc 50%  lambda 0.25  clip 3.1%  tok/s 1,234  " in lines[2]
    assert "s/step  0:00 left" in lines[2]


def test_a_terminal_gets_a_bar_that_counts_optimizer_steps(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    bar = RLSDProgressBar()
    fit(bar, tmp_path)
    shown = terminal.getvalue()
    assert (bar.train_progress_bar.n, bar.train_progress_bar.total) == (STEPS, STEPS)
    assert "5/5" in shown
    assert "15/15" not in shown
    assert "reward=0.500, acc=50%, lambda=0.25, clip=3.1%, tok/s=1,234" in shown
    assert "v_num" not in shown
    assert "step 5: shapes/accuracy 0.75" in shown


def test_a_resumed_run_goes_on_counting(tmp_path, capsys):
    fit(RLSDProgressBar(), tmp_path, steps=3).save_checkpoint(tmp_path / "three.ckpt")
    capsys.readouterr()
    bar = RLSDProgressBar(line_every_n_steps=1)
    fit(bar, tmp_path, resume_from=tmp_path / "three.ckpt")
    lines = lines_of(capsys.readouterr().out)
    assert [line.split("  ")[0] for line in lines] == [
        "step 4/5",
        "step 5/5",
        "step 5: shapes/accuracy 0.75",
    ]
    assert bar.train_progress_bar.initial == 3


def test_evaluations_around_the_training_are_said_if_they_are_logged(tmp_path, capsys):
    loader = torch.utils.data.DataLoader(range(2))
    for logger in (CSVLogger(tmp_path), False):
        trainer = Trainer(
            default_root_dir=tmp_path,
            callbacks=[RLSDProgressBar()],
            accelerator="cpu",
            logger=logger,
            enable_model_summary=False,
        )
        trainer.validate(Logging(), loader, verbose=False)
    assert lines_of(capsys.readouterr().out) == ["step 0: shapes/accuracy 0.75"]


def test_other_ranks_are_silent(tmp_path, capsys):
    bar = RLSDProgressBar(line_every_n_steps=1)
    bar.disable()
    fit(bar, tmp_path)
    assert not lines_of(capsys.readouterr().out)


def test_a_line_every_zero_steps_is_refused():
    with pytest.raises(ValueError, match="line_every_n_steps is 0, needs 1 or more"):
        RLSDProgressBar(line_every_n_steps=0)
