"""Real signals during a real fit: the first one ends it after its step with a checkpoint, the second one at once.

An engine that fails ends it with a checkpoint, too.
"""

import contextlib
import logging
import os
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.callbacks.graceful_stop import GracefulStop
from rlsd_lightning.engines.errors import EngineError
from tests.helpers.toy_training import ToyLoader, ToyModule, fit

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def nobody_listens(number, frame):
    raise AssertionError(f"{signal.Signals(number).name} reached the process")


@pytest.fixture(autouse=True)
def _handlers():
    """A signal that the callback misses fails its test and not the whole run; afterwards all is as it was."""
    before = {number: signal.signal(number, nobody_listens) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class ValidatedModule(ToyModule):
    """Counts how often it is evaluated: in a run without signals once, at the end."""

    num_validations = 0

    def validation_step(self, batch, batch_idx):
        self.num_validations += 1


def train(folder, send, num_steps=5, resume_from=None):
    """Train with two micro-batches per step; send({batch index: signals}) while the batch is computed."""
    callback = GracefulStop(str(folder / "last.ckpt"))

    def in_training_step(batch_idx):
        for number in send.get(batch_idx, ()):
            os.kill(os.getpid(), number)

    module = ValidatedModule(in_training_step)
    trainer = fit(
        module,
        ToyLoader(num_steps, 2),
        [callback],
        folder,
        resume_from,
        val_loader=[torch.zeros(1)],
    )
    return trainer, module, callback


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("batch_idx", [2, 3])  # step 2: its first and its last micro-batch
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(tmp_path, number, batch_idx):
    trainer, module, callback = train(tmp_path, {batch_idx: [number]})
    assert callback.stopped
    assert trainer.global_step == 2
    assert module.weights.tolist() == [2.0, 4.0]
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert saved["global_step"] == 2
    assert saved["state_dict"]["weights"].tolist() == [2.0, 4.0]


def test_the_same_command_goes_on_from_there(tmp_path):
    train(tmp_path, {4: [signal.SIGINT]})
    trainer, module, callback = train(tmp_path, {}, resume_from=tmp_path / "last.ckpt")
    assert not callback.stopped
    assert trainer.global_step == 5
    assert module.weights.tolist() == [5.0, 10.0]


def test_how_to_go_on_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rlsd", "fit", "experiment=my task"])
    with caplog.at_level(logging.WARNING):
        train(tmp_path, {0: [signal.SIGINT]})
    said = [record.getMessage() for record in caplog.records if "graceful_stop" in record.name]
    assert said == [
        "SIGINT: finishing this step, then saving. Once more to stop at once.",
        f"Stopped after step 1 of 5 and saved {tmp_path / 'last.ckpt'}. To go on from there: "
        "python -m rlsd_lightning fit 'experiment=my task'",
    ]


def test_a_second_signal_stops_at_once_without_a_checkpoint(tmp_path):
    """Lightning turns the KeyboardInterrupt into an exit."""
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path, {2: [signal.SIGINT, signal.SIGINT]})
    assert not (tmp_path / "last.ckpt").exists()


def test_the_second_signal_is_a_keyboard_interrupt(tmp_path):
    callback = GracefulStop(str(tmp_path / "last.ckpt"))
    callback.on_train_start(SimpleNamespace(global_step=0), None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


class TwoRanks:
    """What a rank that got no signal learns from the other one."""

    def __init__(self, other_was_asked):
        self.other_was_asked = other_was_asked
        self.num_questions = 0

    def reduce_boolean_decision(self, decision, all):
        self.num_questions += 1
        assert not all
        return decision or self.other_was_asked


@pytest.mark.parametrize("other_was_asked", [True, False])
def test_a_signal_to_one_rank_stops_all_after_the_same_step(other_was_asked):
    """Every rank asks at every step's end: a question that one of them does not ask would hang the others."""
    saved = []
    trainer = SimpleNamespace(
        accumulate_grad_batches=2,
        global_step=1,
        max_steps=5,
        should_stop=False,
        strategy=TwoRanks(other_was_asked),
        save_checkpoint=saved.append,
    )
    callback = GracefulStop("last.ckpt")
    callback.on_train_batch_end(trainer, None, None, None, 0)
    assert trainer.strategy.num_questions == 0
    callback.on_train_batch_end(trainer, None, None, None, 1)
    assert trainer.strategy.num_questions == 1
    assert trainer.should_stop is other_was_asked
    assert saved == ["last.ckpt"] * other_was_asked


def test_no_evaluation_stands_between_the_signal_and_the_end(tmp_path):
    """Lightning validates when it is told to stop; on a benchmark that takes minutes."""
    _, module, _ = train(tmp_path, {2: [signal.SIGINT]})
    assert module.num_validations == 0


def test_a_signal_in_the_last_step_leaves_the_evaluation_of_the_finished_run(tmp_path):
    trainer, module, _ = train(tmp_path, {9: [signal.SIGINT]})
    assert trainer.global_step == 5
    assert module.num_validations == 1


def test_without_a_signal_nothing_changes(tmp_path):
    trainer, module, callback = train(tmp_path, {})
    assert trainer.global_step == 5
    assert not callback.stopped
    assert not (tmp_path / "last.ckpt").exists()
    assert module.num_validations == 1


@pytest.mark.parametrize("send", [{}, {2: [signal.SIGINT]}])
def test_signals_are_given_back_after_a_run(tmp_path, send):
    train(tmp_path, send)
    assert [signal.getsignal(number) for number in SIGNALS] == [nobody_listens] * 2


@pytest.mark.parametrize(
    "end",
    [
        lambda callback: callback.on_train_end(None, None),
        lambda callback: callback.on_exception(None, None, ZeroDivisionError()),
    ],
)
def test_signals_are_given_back_at_the_end_and_after_an_error(end):
    """By the callback itself: a loop of Lightning's that does not tidy up after callbacks would do."""
    callback = GracefulStop("last.ckpt")
    callback.on_train_start(SimpleNamespace(global_step=0), None)
    assert nobody_listens not in [signal.getsignal(number) for number in SIGNALS]
    end(callback)
    assert [signal.getsignal(number) for number in SIGNALS] == [nobody_listens] * 2


ENGINE_FAILED = EngineError("engine: vLLM failed while generating")


class FailingSync(Callback):
    """Stands for a weight sync at the end of a step that fails."""

    def __init__(self, after_step):
        self.after_step = after_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == 2 * self.after_step:
            raise ENGINE_FAILED


def train_with_engine(folder, num_steps=5, fails_at=None, error=ENGINE_FAILED, **kwargs):
    """Train, two micro-batches per step, evaluated after steps 2 and 4; return the module and the steps with rollouts."""
    made = []

    def make_rollouts(step):
        made.append(step)
        if step == fails_at:
            raise error

    module = ValidatedModule()
    callbacks = [GracefulStop(str(folder / "last.ckpt")), *kwargs.pop("callbacks", [])]
    arguments = {"val_loader": [torch.zeros(1)], "validate_every": 4} | kwargs
    with contextlib.suppress(EngineError, ZeroDivisionError):
        fit(module, ToyLoader(num_steps, 2, make_rollouts), callbacks, folder, **arguments)
    return module, made


@pytest.mark.parametrize("step", [2, 3, 5])
@pytest.mark.parametrize("where", ["rollouts", "sync"])
def test_after_an_engine_failed_a_run_goes_on_exactly(tmp_path, step, where):
    """Where rollouts failed the run has been evaluated, if that was due: not once more after the resume."""
    undisturbed, steps = train_with_engine(tmp_path)
    sync = [FailingSync(step - 1)] if where == "sync" else []
    fails_at = step if where == "rollouts" else None
    stopped, _ = train_with_engine(tmp_path, fails_at=fails_at, callbacks=sync)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert saved["global_step"] == step - 1
    assert saved["state_dict"]["weights"].tolist() == [step - 1.0, 2.0 * (step - 1)]
    resumed, made = train_with_engine(tmp_path, resume_from=tmp_path / "last.ckpt")
    assert made == steps[step - 1 :]
    assert resumed.weights.tolist() == undisturbed.weights.tolist() == [5.0, 10.0]
    if where == "rollouts":
        assert stopped.num_validations + resumed.num_validations == 2


def test_after_an_engine_failed_it_is_said_how_to_go_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rlsd", "fit", "experiment=my task"])
    train_with_engine(tmp_path, fails_at=3)
    said = [record.getMessage() for record in caplog.records if "graceful_stop" in record.name]
    assert said == [
        f"The rollout engine failed after step 2 of 5; saved {tmp_path / 'last.ckpt'}. To go on from there: "
        "python -m rlsd_lightning fit 'experiment=my task'"
    ]


def test_nothing_is_saved_of_a_run_without_a_step_or_for_any_other_error(tmp_path):
    train_with_engine(tmp_path, fails_at=1)
    train_with_engine(tmp_path, fails_at=3, error=ZeroDivisionError())
    assert not (tmp_path / "last.ckpt").exists()


def test_nothing_is_saved_in_the_middle_of_a_step_or_of_an_evaluation(tmp_path):
    class FailingModule(ValidatedModule):
        def validation_step(self, batch, batch_idx):
            raise ENGINE_FAILED

    def failing_in(failing_batch):
        def in_training_step(batch_idx):
            if batch_idx == failing_batch:
                raise ENGINE_FAILED

        return ValidatedModule(in_training_step)

    for module in (
        failing_in(4),  # the first micro-batch of a step
        failing_in(5),  # the last one: its step is not taken yet
        FailingModule(),  # other ranks may know nothing of it
    ):
        callback = GracefulStop(str(tmp_path / "last.ckpt"))
        with pytest.raises(EngineError):
            fit(module, ToyLoader(5, 2), [callback], tmp_path, val_loader=[torch.zeros(1)])
        assert not (tmp_path / "last.ckpt").exists()
