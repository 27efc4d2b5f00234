"""Ranks in processes of their own, which add up and compare."""

import os

import pytest

from rlsd_lightning.doctor.ranks import check_all_reduce, check_settings, launched, process_group
from tests.helpers.ranks import run_ranks


def test_one_process_is_well_unless_several_are_wanted():
    assert check_all_reduce(num_wanted=1).level == "ok"
    found = check_all_reduce(num_wanted=8)
    assert found.level == "warning"
    assert "one process, but the configuration asks for 8" in found.seen
    assert "by torchrun" in found.advice
    assert check_settings({"seed": 1}).level == "ok"


def test_ranks_add_up():
    for found in run_ranks(lambda rank: check_all_reduce(num_wanted=3), 3):
        assert found.level == "ok"
        assert found.seen.startswith("gloo over 3 ranks on 1 host adds 16 MiB up right, in ")


def test_ranks_with_different_settings_are_told():
    found = run_ranks(lambda rank: check_settings({"seed": rank // 2}), 3)
    assert [f.level for f in found] == ["fault"] * 3
    assert "seed is 0 on rank 0" in found[0].seen
    assert "and 1 on rank 2" in found[0].seen
    assert run_ranks(lambda rank: check_settings({"seed": 1}).level, 2) == ["ok", "ok"]


def test_a_process_that_was_started_alone_forms_no_group(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert launched() is None
    with process_group("gloo"):
        assert check_all_reduce(num_wanted=1).seen == "one process, with nobody to reach."


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_a_launched_process_forms_one(launcher, monkeypatch):
    """A group of one, as both launchers can start it."""
    environments = {
        "torchrun": {
            "TORCHELASTIC_RUN_ID": "none",
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
        },
        "srun": {
            "SLURM_NTASKS": "1",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_JOB_ID": "12",
            "SLURM_JOB_NAME": "rlsd",
        },
    }
    for name, value in (environments[launcher] | {"MASTER_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with process_group("gloo"):
        assert check_all_reduce(num_wanted=1).seen.startswith("gloo over 1 ranks")
    assert os.environ["MASTER_PORT"] == "0"
