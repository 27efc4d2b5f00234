"""The same run under every strategy: the same weights, gradient norms and metrics; and any of them goes on from any."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlsd_lightning.checkpoints import open_checkpoint
from tests.helpers.workplace import SMALL, logged

ROOT = Path(__file__).parents[2]
STEPS = 5
RUN = (
    *SMALL[1:],
    "evaluators=none",
    f"trainer.max_steps={STEPS}",
    "trainer.gradient_clip_val=0.05",  # below every norm of this run, so that it clips in every step
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
)
TWO = ("trainer.devices=2",)
STRATEGIES = {
    "ddp": ("trainer=ddp", *TWO),
    "zero1": ("trainer=deepspeed_zero1", *TWO),
    "zero2": ("trainer=deepspeed_zero2", *TWO),
    "zero3": ("trainer=deepspeed_zero3", *TWO),
    "fsdp2": ("trainer=fsdp2", *TWO),
}
TEACHERS = {"synced": ("teacher.every_n_steps=2",), "frozen": ("teacher=frozen",)}
LORA = ("model.lora={rank: 4, alpha: 8}",)


@pytest.fixture(scope="module")
def fit_several(workplace):
    """Return a function that runs `fit` under torchrun with several sets of overrides, by the name of their folder."""

    def start(num_processes, common, runs):
        words = [word for name, overrides in runs.items() for word in ("--", name, *overrides)]
        environment = os.environ | {
            "PYTHONPATH": f"{workplace}:{ROOT}",
            "OMP_NUM_THREADS": "1",
        }
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        helper = str(ROOT / "tests" / "helpers" / "fit_several.py")
        done = subprocess.run(
            [
                *(sys.executable, *torchrun, str(num_processes), helper),
                *(str(workplace / "my_conf"), *common, *words),
            ],
            cwd=workplace,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        faults = [line for line in done.stderr.splitlines() if "Error" in line]
        assert done.returncode == 0, "\n".join(faults) + done.stderr[-6000:]

    return start


def tensors(workplace, runs):
    """Read all weights and optimizer states of a run's last checkpoint, of whatever form."""
    reader = open_checkpoint(
        workplace / runs / "quickstart" / "version_0" / "checkpoints" / "last.ckpt"
    )
    return {key: reader.read(key) for key in reader.keys("") if "lm_head" not in key}


def assert_same(workplace, one, other):
    first, second = tensors(workplace, one), tensors(workplace, other)
    assert {k for k in first if "version" not in k} == set(second) - {"weights/teacher.version"}
    for key in second.keys() & first.keys():
        torch.testing.assert_close(
            second[key], first[key], atol=1e-5, rtol=0, msg=f"{other}: {key}"
        )
    for here, there in zip(logged(workplace, one), logged(workplace, other), strict=True):
        assert here == pytest.approx(there, rel=1e-4, abs=1e-6)


def compared(workplace, rlsd, fit_several, name, overrides, strategies):
    """Run once in one process and once under each strategy; all must agree."""
    done = rlsd("fit", SMALL[0], *RUN, *overrides, f"paths.runs=one_{name}")
    assert done.returncode == 0, done.stderr
    steps = logged(workplace, f"one_{name}")
    assert len(steps) == STEPS
    assert all(step["optim/grad_norm"] > 0.05 for step in steps)
    runs = {f"{s}_{name}": STRATEGIES[s] for s in strategies}
    fit_several(2, (*RUN, *overrides), runs)
    for run in runs:
        assert_same(workplace, f"one_{name}", run)


def test_weights_that_are_cut_up_learn_the_same_as_one_process(workplace, rlsd, fit_several):
    compared(workplace, rlsd, fit_several, "cut_up", TEACHERS["synced"], ("zero3",))


@pytest.mark.slow
def test_every_strategy_learns_the_same_as_one_process(workplace, rlsd, fit_several):
    compared(workplace, rlsd, fit_several, "synced", TEACHERS["synced"], STRATEGIES)


@pytest.mark.slow
def test_they_do_so_with_a_frozen_teacher(workplace, rlsd, fit_several):
    compared(workplace, rlsd, fit_several, "frozen", TEACHERS["frozen"], STRATEGIES)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", TEACHERS)
def test_they_do_so_with_adapters_only(workplace, rlsd, fit_several, teacher):
    overrides = (*TEACHERS[teacher], *LORA)
    compared(workplace, rlsd, fit_several, f"lora_{teacher}", overrides, STRATEGIES)


ONE = ("trainer.devices=1",)
JOURNEYS = {  # two ranks, one, two again; one strategy or several
    "zero2": (STRATEGIES["zero2"], ("trainer=deepspeed_zero2", *ONE), STRATEGIES["zero2"]),
    "zero3_to_zero2": (STRATEGIES["zero3"], ("trainer=deepspeed_zero3", *ONE), STRATEGIES["zero2"]),
    "file_between_folders": (STRATEGIES["zero3"], ("trainer=cpu",), STRATEGIES["fsdp2"]),
    "folder_between_files": (STRATEGIES["ddp"], ("trainer=fsdp2", *ONE), STRATEGIES["ddp"]),
}


def stop_after(num_batches, marker):
    return (
        "+callbacks.stop={_target_: my_plugins.SignalOnce, number: SIGINT, "
        f"after_batches: {num_batches}, marker: {marker}}}"
    )


@pytest.mark.slow
def test_any_strategy_goes_on_from_any_other_on_another_number_of_ranks(
    workplace, rlsd, fit_several
):
    common = (*RUN, *TEACHERS["synced"])
    done = rlsd("fit", SMALL[0], *common, "paths.runs=one_journey")
    assert done.returncode == 0, done.stderr
    for leg, num_processes in enumerate((2, 1, 2)):
        runs = {
            name: (*legs[leg], "exp_manager.version=version_0")
            + ((stop_after(4 * leg + 2, f"{name}_{leg}.marker"),) if leg < 2 else ())
            for name, legs in JOURNEYS.items()
        }
        fit_several(num_processes, common, runs)
    for name in JOURNEYS:
        first, second = tensors(workplace, "one_journey"), tensors(workplace, name)
        for key in second.keys() & first.keys():
            torch.testing.assert_close(second[key], first[key], atol=1e-5, rtol=0, msg=key)
