"""Room for checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch

from rlsd_lightning.doctor.disk import (
    CheckpointSize,
    check_disk,
    checkpoint_size,
    count_parameters,
)


def sized(total):
    return CheckpointSize(weights=total, optimizer=0, teacher=0)


def test_a_checkpoint_holds_weights_two_moments_of_what_is_trained_and_copies():
    """8 weights of 2 bytes, 5 of them trained: 16 + 2 * 10 + 16."""
    size = checkpoint_size(8, 5, torch.bfloat16, 1)
    assert (size.weights, size.optimizer, size.teacher, size.total) == (16, 20, 16, 52)


def test_parameters_are_counted_without_weights(policy, tmp_path):
    policy.model.config.save_pretrained(tmp_path)  # and nothing else
    everything, vision = (num(policy.model), num(policy.model.model.visual))
    assert count_parameters(str(tmp_path)) == (everything, everything)
    assert count_parameters(str(tmp_path), freeze_vision=True) == (everything, everything - vision)


def test_beside_lora_only_adapters_are_kept(text_policy, tmp_path):
    """Rank 2 beside q_proj of two layers, 32 to 64: 2 * 2 * (32 + 64)."""
    text_policy.model.config.save_pretrained(tmp_path)
    assert count_parameters(str(tmp_path)) == (num(text_policy.model), num(text_policy.model))
    lora = {"rank": 2, "alpha": 4, "target_modules": ["q_proj"]}
    assert count_parameters(str(tmp_path), lora=lora) == (384, 384)


def num(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("share", "level"), [(0.05, "ok"), (0.45, "warning"), (0.6, "fault")])
def test_the_kept_ones_and_the_one_being_written_must_fit(tmp_path, share, level):
    """One is kept and one is written: twice the size."""
    size = int(shutil.disk_usage(tmp_path).free * share)
    found = check_disk(tmp_path / "runs" / "not_there_yet", sized(size), num_kept=1)
    assert found.level == level
    assert found.seen.startswith(f"{tmp_path} has ")


def test_a_place_that_cannot_be_written_to_is_a_fault():
    found = check_disk(Path("/proc/runs"), sized(1), num_kept=1)
    assert found.level == "fault"
    assert found.seen.startswith("/proc cannot be written to")
