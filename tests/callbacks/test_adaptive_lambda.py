"""Lambda stays at its peak while the reward's moving average rises, then decays; a resumed run is the same."""

import logging
from types import SimpleNamespace

import pytest

from rlsd_lightning.callbacks.adaptive_lambda import AdaptiveLambda, has_stopped_rising
from rlsd_lightning.callbacks.lambda_decay import LambdaDecay
from rlsd_lightning.credit import lambda_at
from tests.helpers.fakes import FixedCredit
from tests.helpers.toy_training import ToyLoader, ToyModule, fit

RULE = {"window": 2, "patience": 2, "min_rise": 0.15}
SETTINGS = {"peak": 0.5, "warmup_steps": 0, "hold_steps": 0, "decay_steps": 4, **RULE}
REWARDS = [0.0, 0.2, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
"""Averages of two: 0.1 0.3 0.5 0.6 0.6 0.6 ... from step 2 on. After step 6, steps 5 and 6 are less than 0.15 above the best before them:
the last step at the peak is 6."""
WANTED = [0.5] * 6 + [0.375, 0.25, 0.125, 0.0, 0.0, 0.0]


class Rewarded(ToyModule):
    """Logs the scripted reward of each step where RLSDModule does."""

    def __init__(self, rewards, **parts):
        super().__init__(**parts)
        self.rewards = rewards

    def on_before_optimizer_step(self, optimizer):
        self.log("rollout/reward_mean", self.rewards[self.trainer.global_step])


def train(folder, settings=None, num_steps=12, resume_from=None, save_to=None, rewards=REWARDS):
    """Return lambda as it stood when each step's rollouts were made."""
    credit, at_rollout = FixedCredit(), {}
    loader = ToyLoader(num_steps, 2, lambda step: at_rollout.update({step: credit.lambda_}))
    callback = AdaptiveLambda(**(SETTINGS | (settings or {})))
    trainer = fit(Rewarded(rewards, credit=credit), loader, [callback], folder, resume_from)
    if save_to is not None:
        trainer.save_checkpoint(save_to)
    return at_rollout


def test_a_rising_average_has_not_stopped():
    assert not has_stopped_rising([0.0, 0.2, 0.4, 0.6, 0.8], **RULE)


def test_an_average_has_stopped_once_patience_steps_brought_no_new_best():
    # Averages 0.1, 0.3, 0.5, 0.6, 0.6: after the 5th value the best of the last two is 0.6, before them 0.5.
    assert not has_stopped_rising([0.0, 0.2, 0.4, 0.6, 0.6], **RULE)
    assert has_stopped_rising([0.0, 0.2, 0.4, 0.6, 0.6, 0.6], **RULE)


def test_a_rise_below_min_rise_is_none():
    values = [0.0, 0.05, 0.10, 0.15, 0.20]  # averages 0.025, 0.075, 0.125, 0.175: 0.1 in two steps
    assert not has_stopped_rising(values, window=2, patience=2, min_rise=0.09)
    assert has_stopped_rising(values, window=2, patience=2, min_rise=0.11)


def test_one_bad_step_ends_nothing():
    assert not has_stopped_rising([0.0, 0.2, 0.4, 0.6, 0.8, 0.5], **RULE)


def test_coming_back_to_the_best_is_no_rise():
    assert has_stopped_rising([0.8, 0.1, 0.3, 0.4], window=1, patience=2, min_rise=0.15)


def test_nothing_is_said_before_there_is_something_to_compare():
    assert not has_stopped_rising([0.5, 0.5, 0.5], **RULE)
    assert has_stopped_rising([0.5, 0.5, 0.5, 0.5], **RULE)


def test_lambda_decays_after_the_reward_has_stopped_rising(tmp_path):
    assert list(train(tmp_path).values()) == WANTED


@pytest.mark.parametrize("done", [1, 4, 5, 6, 8])
def test_a_resumed_run_is_the_same(tmp_path, done):
    train(tmp_path, num_steps=done, save_to=tmp_path / "last.ckpt")
    resumed = train(tmp_path, resume_from=tmp_path / "last.ckpt")
    assert resumed == dict(enumerate(WANTED[done:], start=done + 1))


def test_what_alarms_left_of_lambda_survives_a_resume(tmp_path):
    lowered = AdaptiveLambda(**SETTINGS)
    lowered.lambda_control.lower(0.5)
    trainer = fit(Rewarded(REWARDS, credit=FixedCredit()), ToyLoader(3, 1), [lowered], tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = train(tmp_path, resume_from=tmp_path / "last.ckpt")
    assert list(resumed.values()) == [value / 2 for value in WANTED[3:]]


def test_the_first_step_of_the_decay_is_said_once(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(tmp_path)
    said = [r.getMessage() for r in caplog.records if "adaptive_lambda" in r.name]
    assert said == ["Lambda decays from step 7 on: rollout/reward_mean stopped rising."]


def test_hold_steps_keep_the_peak_whatever_the_reward_does(tmp_path):
    found = list(train(tmp_path, {"hold_steps": 8}).values())
    assert found == [0.5] * 8 + [0.375, 0.25, 0.125, 0.0]


@pytest.mark.parametrize(("warmup", "hold"), [(0, 0), (0, 3), (2, 1), (3, 0)])
def test_a_fixed_hold_is_lambda_decay(tmp_path, warmup, hold):
    fixed = {"warmup_steps": warmup, "hold_steps": hold, "max_hold_steps": hold, "shape": "cosine"}
    found = train(tmp_path, fixed, rewards=[step / 10 for step in range(12)])
    assert found == {step: lambda_at(step, 0.5, warmup, hold, 4, "cosine") for step in range(1, 13)}


def test_a_reward_that_keeps_rising_keeps_the_peak(tmp_path):
    found = train(tmp_path, rewards=[step / 10 for step in range(12)])
    assert set(found.values()) == {0.5}


def test_a_metric_that_is_not_logged_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match=r"monitor is 'rollout/reward'.*rollout/reward_mean"):
        train(tmp_path, {"monitor": "rollout/reward"})


def test_a_metric_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no finite value"):
        train(tmp_path, rewards=[float("nan")] * 12)


def test_two_schedules_are_refused(tmp_path):
    decay = LambdaDecay(peak=0.5, warmup_steps=0, hold_steps=0, decay_steps=4)
    module = Rewarded(REWARDS, credit=FixedCredit())
    for callbacks in ([decay, AdaptiveLambda(**SETTINGS)], [AdaptiveLambda(**SETTINGS), decay]):
        with pytest.raises(ValueError, match=r"would all set lambda.*callbacks=adaptive"):
            fit(module, ToyLoader(1, 1), callbacks, tmp_path)


def test_a_method_without_lambda_is_left_alone_with_a_warning(caplog):
    credit = SimpleNamespace(needs_teacher=False)
    with caplog.at_level(logging.WARNING):
        AdaptiveLambda(**SETTINGS).on_train_start(
            SimpleNamespace(global_step=0), SimpleNamespace(credit=credit)
        )
    assert not hasattr(credit, "lambda_")
    assert "lambda_decay has no effect" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        {"peak": 1.1},
        {"window": 0},
        {"patience": 0},
        {"min_rise": 0.0},
        {"decay_steps": 0},
        {"max_hold_steps": 2, "hold_steps": 3},
        {"monitor": "val/held_out/accuracy"},
        {"shape": "wavy"},
        {"hold_steps": -1},
    ],
)
def test_a_fault_in_the_settings_shows_at_once(fault):
    with pytest.raises(ValueError, match=next(iter(fault))):
        AdaptiveLambda(**(SETTINGS | fault))
