"""The job script: what it decides after a run has ended, with a stand-in for the run; and with real runs, requeued."""

import subprocess
import sys

import pytest

from tests.helpers.slurm import SCRIPT, Slurm
from tests.helpers.workplace import SMALL, checkpoint

STAND_IN = f"""#!{sys.executable}
import os, sys, time
from pathlib import Path

run = Path(next(w.partition("=")[2] for w in sys.argv if w.startswith("paths.runs=")), "default", "slurm_4711")
os.write(1, ("words: " + " ".join(sys.argv[1:]) + "\\n").encode())  # in one piece: two tasks share the output
todo = os.environ["TODO"].split()
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
if "save" in todo:
    time.sleep(0.05)
    (run / "checkpoints" / "last.ckpt").touch()
if "begin" in todo:
    (run / "checkpoints" / "last.ckpt.partial").touch()
if "finish" in todo:
    (run / "finished").touch()
if "wait" in todo:
    time.sleep(2)
sys.exit(int(todo[-1]))
"""


@pytest.fixture
def slurm(tmp_path):
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return Slurm(tmp_path, tmp_path, str(python))


def decide(slurm, todo):
    slurm.environment["TODO"] = todo
    return slurm.run("paths.runs=kept", "credit=grpo")


def test_the_script_is_bash():
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0


def test_every_task_gets_the_command_with_the_jobs_size_and_a_version_that_a_requeue_finds(slurm):
    status, said = decide(slurm, "save finish 0")
    assert status == 0
    words = (
        "-m rlsd_lightning fit trainer.num_nodes=2 trainer.devices=1 exp_manager.version=slurm_4711"
    )
    assert said.splitlines() == [f"words: {words} paths.runs=kept credit=grpo"] * 2
    assert slurm.requeues() == []


@pytest.mark.parametrize("status", [0, 75, 137])
def test_a_run_that_stopped_and_has_saved_is_requeued(slurm, status):
    assert decide(slurm, f"save {status}")[0] == 0
    assert slurm.requeues() == ["requeue 4711"]


@pytest.mark.parametrize("status", [1, 2])
def test_a_fault_that_would_come_again_is_not(slurm, status):
    assert decide(slurm, f"save {status}")[0] == status
    assert slurm.requeues() == []


def test_a_run_that_gets_nowhere_is_not_requeued_for_ever(slurm):
    assert decide(slurm, "save 0")[0] == 0
    status, said = decide(slurm, "begin 0")  # the whole checkpoint is the earlier start's
    assert status == 1
    assert "before anything was saved" in said
    assert slurm.requeues() == ["requeue 4711"]


def test_a_cancelled_job_stays_cancelled(slurm):
    slurm.environment["TODO"] = "save wait 0"
    job = slurm.start("paths.runs=kept")
    for line in job.stdout:
        if line.startswith("words"):
            break
    job.terminate()
    assert "exp_manager.version=slurm_4711 to go on" in job.communicate(timeout=30)[0]
    assert job.returncode == 143
    assert slurm.requeues() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "stopped", "goes_on"),
    [("SIGTERM", "status 0", "last.ckpt"), ("SIGKILL", "status 137", "step_00000002.ckpt")],
)
def test_a_real_run_is_requeued_and_resumes(tmp_path, workplace, number, stopped, goes_on):
    """SIGTERM is what comes before the time limit; SIGKILL ends one of the two ranks."""
    slurm, runs = Slurm(tmp_path, workplace), f"slurm_{number}"
    strike = (
        f"+callbacks.strike={{_target_: my_plugins.SignalOnce, after_batches: 5, number: {number}, "
        f"marker: {runs}.marker}}"
    )
    words = (*SMALL, "trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", strike)
    words = (*words, "trainer.devices=1", f"paths.runs={runs}")
    status, said = slurm.run(*words)
    assert status == 0, said
    assert f"fit.sbatch: stopped ({stopped})" in said
    assert slurm.requeues() == ["requeue 4711"]
    status, said = slurm.run(*words)
    assert status == 0, said
    assert f"goes on from {goes_on}" in said
    assert slurm.requeues() == ["requeue 4711"]
    assert checkpoint(workplace, runs, "slurm_4711")["global_step"] == 6
