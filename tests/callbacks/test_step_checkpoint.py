"""Checkpoints are written at the ends of optimizer steps only; a loader in mid-step would refuse."""

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from rlsd_lightning.callbacks.step_checkpoint import StepCheckpoint
from tests.helpers.toy_training import ToyLoader, ToyModule, fit


def train(folder, num_steps, kind=StepCheckpoint, resume_from=None, every=1):
    """Train with two micro-batches per step; return what was saved: (step, weights)."""
    callback = kind(
        dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1, save_last=True
    )
    module = ToyModule()
    fit(module, ToyLoader(num_steps, 2), [callback], folder, resume_from, checkpointing=True)
    return module.saves


def test_a_checkpoint_is_written_after_every_step_that_asks_for_one(tmp_path):
    """A file per step and last.ckpt; after step s the weights are (s, 2 s)."""
    saves = train(tmp_path, 4, every=2)
    assert sorted(set(step for step, _ in saves)) == [2, 4]
    assert all(weights == [step, 2 * step] for step, weights in saves)
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {
        "step=2.ckpt",
        "step=4.ckpt",
        "last.ckpt",
    }


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_resumed_run_does_not_save_after_its_first_micro_batch(tmp_path, done, every):
    """Resumed at a step that is a multiple of `every`, Lightning's own callback saves too early: see below."""
    train(tmp_path, done)
    saves = train(tmp_path, 5, resume_from=tmp_path / f"step={done}.ckpt", every=every)
    assert {step for step, _ in saves} == {s for s in range(done + 1, 6) if s % every == 0}
    assert all(weights == [step, 2 * step] for step, weights in saves)


def test_lightnings_own_callback_does(tmp_path):
    """What this callback is for; if this fails, Lightning has learnt it and the callback can go."""
    train(tmp_path, 1, kind=ModelCheckpoint)
    with pytest.raises(RuntimeError, match="saved after 1 of 2 micro-batches"):
        train(tmp_path, 3, kind=ModelCheckpoint, resume_from=tmp_path / "step=1.ckpt")
