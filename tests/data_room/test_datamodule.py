import os
import signal
import threading
from types import SimpleNamespace

import lightning
import pytest

from rlsd_lightning.callbacks.graceful_stop import GracefulStop
from rlsd_lightning.data.datamodule import (
    Evaluation,
    EvaluationBatch,
    RolloutDataModule,
    RolloutSettings,
    rank_indices,
)
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import IndexedSupply
from rlsd_lightning.types import Problem, Sampling
from tests.helpers.fakes import EngineElsewhere, FixedCredit, PlainEncoder, ScriptedVerifier
from tests.helpers.toy_training import ToyModule

PROBLEMS = [Problem(id=str(number), prompt="?") for number in range(7)]


def batches(rank, world_size, batch_size=2):
    sampling = Sampling(max_completion_tokens=1)
    evaluation = Evaluation(
        problems=PROBLEMS, metric=None, sampling=sampling, batch_size=batch_size
    )
    module = RolloutDataModule(None, None, None, {"one": evaluation})
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    (loader,) = module.val_dataloader()
    return list(loader)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 10])
def test_every_problem_counts_on_exactly_one_rank(world_size):
    counted = [
        problem.id
        for rank in range(world_size)
        for batch in batches(rank, world_size)
        for problem in batch.counted
    ]
    assert sorted(counted) == [problem.id for problem in PROBLEMS]


@pytest.mark.parametrize("world_size", [2, 3, 4, 10])
def test_all_ranks_sample_equally_often(world_size):
    """Else one of them would wait for ever where weights are gathered."""
    sizes = [[len(b.problems) for b in batches(rank, world_size)] for rank in range(world_size)]
    assert all(size == sizes[0] for size in sizes)
    assert len(set(map(len, (rank_indices(7, r, world_size) for r in range(world_size))))) == 1


def test_a_batch_tells_fill_from_what_counts():
    batch = EvaluationBatch(problems=tuple(PROBLEMS[:3]), counts=(True, False, True))
    assert batch.of_counted(["a", "b", "c"]) == ["a", "c"]
    assert batch.counted == [PROBLEMS[0], PROBLEMS[2]]


class OnRollouts(ToyModule):
    """Two weights that learn from the number of completions."""

    def training_step(self, batch, batch_idx):
        self.in_training_step(batch_idx)
        return -self.weights.sum() * len(batch.rollouts)


def fit(folder, during=lambda call: None, in_training_step=lambda batch_idx: None, callbacks=()):
    """Train three steps of two micro-batches with rollouts made ahead. Return the engine and the module."""
    settings = RolloutSettings(
        problems_per_step=2,
        group_size=2,
        sampling=Sampling(max_completion_tokens=3),
        overlap=True,
        max_policy_lag=1,
    )
    engine = EngineElsewhere(lambda prompt_id, place, seed: [1 + place], during)
    verifier = ScriptedVerifier(lambda problem, response: float(response == "1"))
    collector = RolloutCollector(engine, PlainEncoder(), verifier, FixedCredit(False), 2)
    module = OnRollouts(in_training_step)
    supply = IndexedSupply(PROBLEMS, 2, shuffle=False, seed=0)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=3,
        max_epochs=-1,
        accumulate_grad_batches=2,
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=RolloutDataModule(supply, collector, settings, {}))
    return engine, module


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "rollouts-ahead"]


def test_no_thread_outlives_training(tmp_path):
    there = []
    engine, module = fit(tmp_path, in_training_step=lambda batch_idx: there.append(len(threads())))
    assert there == [1] * 6
    assert engine.num_calls == 3
    assert module.weights.tolist() == pytest.approx([3 * 2.0] * 2)  # four completions, divided by K
    assert not threads()


def test_none_outlives_a_graceful_stop(tmp_path):
    stop = GracefulStop(str(tmp_path / "last.ckpt"))

    def interrupt(batch_idx):
        if batch_idx == 2:
            os.kill(os.getpid(), signal.SIGINT)

    fit(tmp_path, in_training_step=interrupt, callbacks=[stop])
    assert stop.stopped
    assert not threads()


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("mine"), ValueError), (KeyboardInterrupt(), SystemExit)]
)
def test_an_error_or_ctrl_c_in_a_step_waits_for_what_the_engine_is_at(tmp_path, error, raised):
    begun, ending = threading.Event(), threading.Event()
    ended = []

    def generate(call):
        if call == 1:
            begun.set()
            assert ending.wait(20)
            ended.append(call)

    def fail(batch_idx):
        assert begun.wait(20)
        threading.Timer(0.05, ending.set).start()
        raise error

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(raised):
        fit(tmp_path, generate, fail)
    signal.signal(signal.SIGINT, before)  # Lightning has it ignored from then on
    assert ended == [1]
    assert not threads()


def test_an_error_of_the_engine_ends_the_run_with_its_own_words(tmp_path):
    def fail(call):
        if call == 1:
            raise ConnectionError("the engine is gone")

    trained = []
    with pytest.raises(ConnectionError, match="the engine is gone"):
        fit(tmp_path, fail, trained.append)
    assert trained == [0, 1]  # the first step has come to its end
    assert not threads()


def test_a_lag_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"rollout\.max_policy_lag is -1.*Set it to 0"):
        RolloutSettings(
            problems_per_step=1,
            group_size=2,
            sampling=Sampling(max_completion_tokens=1),
            max_policy_lag=-1,
        )
