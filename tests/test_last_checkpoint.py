"""The last step is kept, and a disk without room is told at the start."""

import shutil
from types import SimpleNamespace

import pytest

from rlsd_lightning.checkpoints import checkpoint_bytes
from rlsd_lightning.last_checkpoint import LastCheckpoint
from tests.helpers.toy_training import ToyLoader, ToyModule, fit


def test_the_last_step_is_kept_inside_the_run(tmp_path):
    module = ToyModule()
    fit(module, ToyLoader(3, 2), [LastCheckpoint(tmp_path / "last.ckpt")], tmp_path)
    assert module.saves == [(3, [3.0, 6.0])]
    assert (tmp_path / "last.ckpt").is_file()


def test_a_checkpoint_takes_its_weights_and_two_moments_of_what_is_trained(text_policy):
    """3 x 4 bytes for each trained weight, 4 for each frozen one."""
    num_all = sum(weight.numel() for weight in text_policy.parameters())
    assert checkpoint_bytes(text_policy) == 12 * num_all
    frozen = text_policy.model.model.embed_tokens.weight.requires_grad_(False)
    assert checkpoint_bytes(text_policy) == 12 * num_all - 8 * frozen.numel()


def test_too_little_disk_stops_the_run_before_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=7))
    made = []
    with pytest.raises(ValueError, match=r"has 0\.0 GB free, and a checkpoint of this run takes"):
        fit(
            ToyModule(),
            ToyLoader(3, 2, on_step=made.append),
            [LastCheckpoint(tmp_path / "last.ckpt")],
            tmp_path,
        )
    assert made == []


def test_room_for_one_checkpoint_is_enough(tmp_path, monkeypatch):
    """The toy's two weights with two moments each: 24 bytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=24))
    fit(ToyModule(), ToyLoader(1, 1), [LastCheckpoint(tmp_path / "last.ckpt")], tmp_path)
