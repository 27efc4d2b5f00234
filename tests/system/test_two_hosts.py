"""Two hosts train together; one dies in mid-step, or its cable is pulled: the other says so and ends, and a restart resumes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.hosts import Host, two_hosts
from tests.helpers.workplace import SMALL, checkpoint

pytestmark = pytest.mark.slow

PLUGIN = '''
import os
import time
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class HangOnce(Callback):
    """Stops in mid-step, on one rank, so that the test can strike there; only at the first start."""

    def __init__(self, rank, after_batches, marker):
        self.rank, self.after_batches, self.marker = rank, after_batches, Path(marker)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank != self.rank or batch_idx + 1 != self.after_batches:
            return
        if not self.marker.exists():
            self.marker.touch()
            time.sleep(600)
'''
WITHIN_S = 60
DDP = (
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.devices=1",
    "trainer.num_nodes=2",
)


def start(hosts: tuple[Host, Host], folder: Path, logs: list[Path], *overrides: str):
    """Type the command of docs/multi_node.md on both hosts."""
    return [
        host.start(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                *("--nproc-per-node", "1", "--node-rank", str(number)),
                *("--master-addr", hosts[0].address, "--master-port", "29500"),
                *("-m", "rlsd_lightning", "fit", *SMALL, *DDP, *overrides),
            ],
            log,
            folder,
        )
        for number, (host, log) in enumerate(zip(hosts, logs, strict=True))
    ]


def wait_for(condition, timeout_s: float, logs: list[Path]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "\n".join(log.read_text() for log in logs)
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("lost", "strike"),
    [(1, Host.kill), (0, Host.kill), (1, Host.pull_the_cable)],
    ids=["kill", "kill_rank_0", "cable"],
)
def test_a_lost_host_is_named_and_a_restart_resumes(workplace, tmp_path, lost, strike):
    (workplace / "my_hosts.py").write_text(PLUGIN)
    marker, logs = tmp_path / "marker", [tmp_path / f"host{n}.log" for n in range(2)]
    runs = f"hosts_{tmp_path.name}"
    command = (
        f"paths.runs={runs}",
        f"+callbacks.hang={{_target_: my_hosts.HangOnce, rank: {lost}, after_batches: 7, marker: {marker}}}",
    )
    with two_hosts() as hosts:
        started = start(hosts, workplace, logs, *command)
        wait_for(marker.exists, 120, logs)
        time.sleep(2)  # the other rank has come to the collective operation by now
        strike(hosts[lost])
        struck = time.monotonic()
        other = started[1 - lost]
        try:
            status = other.wait(timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end within {WITHIN_S} s:\n{logs[1 - lost].read_text()}")
        print(f"ended {time.monotonic() - struck:.1f} s later")
        said = logs[1 - lost].read_text()
        assert status != 0
        assert f"Rank {lost} on " in said, said
        assert "is missing" in said
        newest = (
            workplace / runs / "quickstart" / "version_0" / "checkpoints" / "step_00000002.ckpt"
        )
        assert f"The newest checkpoint is {newest}" in said
    with two_hosts() as hosts:
        again = start(hosts, workplace, logs, *command)
        assert [process.wait(timeout=180) for process in again] == [0, 0], logs[0].read_text()
    assert "goes on from step_00000002.ckpt" in logs[0].read_text()
    assert checkpoint(workplace, runs)["global_step"] == 6


def test_lightnings_own_launcher_starts_two_hosts(workplace, tmp_path):
    """One command per host; the version is named, as the hosts do not know each other before they choose a folder."""
    logs = [tmp_path / f"host{n}.log" for n in range(2)]
    words = (
        *(w for w in SMALL if "max_steps" not in w),
        *DDP,
        "trainer.max_steps=2",
        f"paths.runs=own_{tmp_path.name}",
    )
    with two_hosts() as hosts:
        started = [
            host.start(
                [
                    *("env", f"MASTER_ADDR={hosts[0].address}", "MASTER_PORT=29501"),
                    *(f"NODE_RANK={number}", sys.executable, "-m", "rlsd_lightning", "fit"),
                    *(*words, "exp_manager.version=first"),
                ],
                log,
                workplace,
            )
            for number, (host, log) in enumerate(zip(hosts, logs, strict=True))
        ]
        assert [process.wait(timeout=180) for process in started] == [0, 0], logs[0].read_text()
    run = workplace / f"own_{tmp_path.name}" / "quickstart" / "first"
    assert (run / "finished").exists()
    assert [path.name for path in run.parent.iterdir()] == ["first"]
