"""Lambda stands before the rollouts of each step are made, also after a resume."""

import logging
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.callbacks.lambda_decay import LambdaDecay
from rlsd_lightning.credit import lambda_at
from tests.helpers.fakes import FixedCredit
from tests.helpers.toy_training import ToyLoader, ToyModule, fit

SCHEDULE = {"peak": 0.5, "warmup_steps": 2, "hold_steps": 1, "decay_steps": 4, "shape": "cosine"}
NUM_STEPS = 8


def train(num_steps, folder, num_micro_batches=2, resume_from=None, save_to=None):
    """Return lambda as it stood when each step's rollouts were made, and in each of its training steps."""
    credit = FixedCredit()
    at_rollout, in_training = {}, {}
    loader = ToyLoader(
        num_steps, num_micro_batches, lambda step: at_rollout.update({step: credit.lambda_})
    )

    def in_training_step(batch_idx):
        in_training.setdefault(batch_idx // num_micro_batches + 1, set()).add(credit.lambda_)

    module = ToyModule(in_training_step, credit=credit)
    trainer = fit(module, loader, [LambdaDecay(**SCHEDULE)], folder, resume_from)
    if save_to is not None:
        trainer.save_checkpoint(save_to)
    return at_rollout, in_training


@pytest.mark.parametrize("num_micro_batches", [1, 3])
def test_every_step_has_its_lambda_before_its_rollouts_and_keeps_it(tmp_path, num_micro_batches):
    at_rollout, in_training = train(NUM_STEPS, tmp_path, num_micro_batches)
    wanted = {step: lambda_at(step, **SCHEDULE) for step in range(1, NUM_STEPS + 1)}
    assert at_rollout == wanted
    assert in_training == {step: {value} for step, value in wanted.items()}
    assert wanted[1] == 0.25  # not the 0 that the credit starts with
    assert wanted[8] == 0.0


@pytest.mark.parametrize("done", [1, 3, 6])
def test_a_resumed_run_finds_its_lambda_again(tmp_path, done):
    train(done, tmp_path, save_to=tmp_path / "last.ckpt")
    at_rollout, _ = train(NUM_STEPS, tmp_path, resume_from=tmp_path / "last.ckpt")
    assert at_rollout == {
        step: lambda_at(step, **SCHEDULE) for step in range(done + 1, NUM_STEPS + 1)
    }


def test_a_method_without_lambda_is_left_alone_with_a_warning(caplog):
    credit = SimpleNamespace(needs_teacher=False)
    callback, module = LambdaDecay(**SCHEDULE), SimpleNamespace(credit=credit)
    with caplog.at_level(logging.WARNING):
        callback.on_train_start(SimpleNamespace(global_step=0), module)
        callback.on_train_batch_end(SimpleNamespace(global_step=1), module, None, None, 0)
    assert not hasattr(credit, "lambda_")
    assert "lambda_decay has no effect" in caplog.text


@pytest.mark.parametrize("peak", [-0.1, 1.1])
def test_a_peak_out_of_range_is_refused(peak):
    with pytest.raises(ValueError, match=rf"lambda_decay\.peak is {peak}.*\[0, 1\]"):
        LambdaDecay(**(SCHEDULE | {"peak": peak}))


@pytest.mark.parametrize("fault", [{"decay_steps": -1}, {"warmup_steps": -2}, {"shape": "wavy"}])
def test_a_fault_in_the_schedule_shows_at_once(fault):
    with pytest.raises(ValueError, match=next(iter(fault))):
        LambdaDecay(**(SCHEDULE | fault))


def test_what_alarms_leave_of_lambda_holds_at_once_and_in_all_steps_to_come(tmp_path):
    class LowersAfterStepTwo(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 1:
                schedule.lambda_control.lower(0.5)

    credit, at_rollout = FixedCredit(), {}
    schedule = LambdaDecay(**SCHEDULE)
    loader = ToyLoader(4, 1, lambda step: at_rollout.update({step: credit.lambda_}))
    module = ToyModule(credit=credit)
    trainer = fit(module, loader, [schedule, LowersAfterStepTwo()], tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    wanted = {step: lambda_at(step, **SCHEDULE) for step in range(1, 7)}
    assert at_rollout == {
        step: value * (1 if step <= 2 else 0.5) for step, value in wanted.items() if step <= 4
    }

    credit.lambda_, schedule = 0.0, LambdaDecay(**SCHEDULE)
    loader = ToyLoader(6, 1, lambda step: at_rollout.update({step: credit.lambda_}))
    fit(ToyModule(credit=credit), loader, [schedule], tmp_path, tmp_path / "last.ckpt")
    assert (at_rollout[5], at_rollout[6]) == (wanted[5] * 0.5, wanted[6] * 0.5)
