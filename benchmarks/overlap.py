"""Times training with a rollout server with rollout.overlap=false and true: the same short run, in turns.

    python benchmarks/overlap.py                                   the quickstart; its data and model are made if need be
    python benchmarks/overlap.py --steps 8 --rounds 1 --group-size 16
    python benchmarks/overlap.py trainer.accumulate_grad_batches=1   overrides for the server and for both runs

`serve-rollouts` is on one core and stays for all runs, `fit engine=vllm_server` is on another, each with one thread. Both
runs of a round have its number as seed, max_policy_lag=1 and importance_cap=2.0. The first two steps are left out, and the
last one, beside which nothing is sampled.

    step s        from the end of a step to the end of the next one, by the wall clock; median over the steps of all rounds.
    per run       the medians of the fastest and the slowest run: what other programs on the cores did.
    time/step_s   the phases that training measures; handing weights over is none of them.
    rollouts s    sampling, judging, the teacher's views; with overlap beside the step before.
    wait s        time/rollout_wait_s: training was done and rollouts were not.
    sync s        handing weights over and checking them, which nothing goes on beside.
    best s        from the runs without overlap: the longer of rollouts and training in place of their sum.
    reward, lag   mean reward; the oldest rollouts, in optimizer steps.

Needs vLLM, Linux and two cores. The server and the run end with the benchmark, also if it is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

from _table import table

from rlsd_lightning.report.metrics_csv import Points, read_metrics

HERE = Path(__file__).parent
HEADER = (
    *("overlap", "steps", "step s", "per run", "time/step_s", "rollouts s", "wait s", "sync s"),
    *("best s", "reward", "lag"),
)
FIRST_STEPS = 2
"""They are left out: caches are cold, and the first one's rollouts are made before it either way."""
MADE_AHEAD = ("rollout_s", "verify_s", "encode_teacher_s")
"""What overlap does beside training."""
BOTH = (
    "engine=vllm_server",
    "rollout.max_policy_lag=1",
    "loss.importance_cap=2.0",
    "num_threads=1",
    "trainer.val_check_interval=null",
    "exp_manager.create_checkpoint_callback=false",
)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps of one run that count, in order."""

    wall_s: list[float]
    """From the end of the step before, weights handed over, to the end of this one."""
    phases_s: list[float]
    """time/step_s."""
    rollouts_s: list[float]
    """What the step's rollouts took, wherever they were made."""
    wait_s: list[float]
    """What training waited for the next step's rollouts."""
    sync_s: list[float]
    """What handing the step's weights over took, and comparing log-probs."""
    reward: list[float]
    """Mean reward of the step."""
    lag: list[float]
    """Age of the step's oldest rollouts, in optimizer steps."""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="of each run, 4 or more")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--group-size", type=int, default=8, help="G, completions per problem")
    parser.add_argument("--experiment", default="quickstart", help="of conf/experiment")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    args = parser.parse_args(words)
    if args.steps < FIRST_STEPS + 2:
        parser.error(
            f"--steps is {args.steps}. The first {FIRST_STEPS} and the last one do not count: "
            f"set it to {FIRST_STEPS + 2} or more."
        )
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("this process may use one core. The server and training need one each.")
    return args


def steps_of(metrics: Mapping[str, Points], ends: Sequence[float], overlap: bool) -> Steps:
    """Take the steps that count from what a run has written.

    Args:
        metrics: by name and step, counted from 1.
        ends: when each step ended, in seconds.
        overlap: whether rollouts were made beside the step before.
    """
    counted = range(FIRST_STEPS + 1, len(ends))
    where = "ahead" if overlap else "time"

    def values(name: str) -> list[float]:
        return [metrics[name][step] for step in counted]

    return Steps(
        wall_s=[ends[step - 1] - ends[step - 2] for step in counted],
        phases_s=values("time/step_s"),
        rollouts_s=[sum(metrics[f"{where}/{name}"][n] for name in MADE_AHEAD) for n in counted],
        wait_s=values("time/rollout_wait_s") if overlap else [0.0 for _ in counted],
        sync_s=values("sync/seconds"),
        reward=values("rollout/reward_mean"),
        lag=values("rollout/policy_lag_max"),
    )


def best_s(runs: Sequence[Steps]) -> float:
    """Return the seconds of a step if rollouts and training took the longer of the two instead of their sum.

    best = wall - min(rollouts, training),  training = time/step_s - rollouts; the rest of a step stays, the sync above all

    Args:
        runs: without overlap.
    """
    return median(
        wall - min(rollouts, phases - rollouts)
        for run in runs
        for wall, phases, rollouts in zip(run.wall_s, run.phases_s, run.rollouts_s, strict=True)
    )


def row(overlap: bool, runs: Sequence[Steps]) -> list[str]:
    """Return a line of the table."""
    pooled = {name: [v for run in runs for v in getattr(run, name)] for name in Steps.__slots__}
    each = [median(run.wall_s) for run in runs]
    return [
        "on" if overlap else "off",
        str(len(pooled["wall_s"])),
        f"{median(pooled['wall_s']):.3f}",
        f"{min(each):.2f}-{max(each):.2f}",
        f"{median(pooled['phases_s']):.3f}",
        f"{median(pooled['rollouts_s']):.3f}",
        f"{median(pooled['wait_s']):.3f}" if overlap else "-",
        f"{median(pooled['sync_s']):.3f}",
        "-" if overlap else f"{best_s(runs):.3f}",
        f"{mean(pooled['reward']):.3f}",
        f"{max(pooled['lag']):.0f}",
    ]


def gain(off: Sequence[Steps], on: Sequence[Steps]) -> str:
    """Say how many times as fast a step was with overlap, and how many times it could have been."""
    before, after = (median(s for run in runs for s in run.wall_s) for runs in (off, on))
    return f"off / on: {before / after:.2f}   off / best: {before / best_s(off):.2f}"


@contextmanager
def server(words: Sequence[str], core: int, folder: Path) -> Iterator[str]:
    """Start a rollout server, wait until it is ready, yield its address; end it, whatever happens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    process = start(["serve-rollouts", *words, f"serving.port={port}"], core, log)
    try:
        while "The rollout server is ready" not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"serve-rollouts has ended:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def fit(words: Sequence[str], overlap: bool, core: int, folder: Path) -> Steps:
    """Train once in a folder of its own, and return the steps that count."""
    folder.mkdir()
    clock = f"{{_target_: overlap_clock.StepEnds, path: {folder / 'ends.json'}}}"
    settings = [
        *BOTH,
        f"rollout.overlap={str(overlap).lower()}",
        f"+callbacks.step_ends={clock}",
        f"paths.runs={folder / 'runs'}",
    ]
    log = folder / "fit.log"
    process = start(["fit", *words, *settings], core, log)
    try:
        if process.wait():
            raise RuntimeError(
                f"fit has ended with {process.returncode}:\n{log.read_text()[-3000:]}"
            )
    finally:
        end(process)
    written = (folder / "runs").rglob("metrics.csv")
    return steps_of(read_metrics(written), json.loads((folder / "ends.json").read_text()), overlap)


def start(words: Sequence[str], core: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a command of rlsd_lightning on one core with one thread; what it prints goes to a file."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "rlsd_lightning", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(_become_child, core, ctypes.CDLL(None)),
        )


def _become_child(core: int, libc: ctypes.CDLL) -> None:
    """Bind this process, and all that it will start, to a core; it is told to end if the benchmark is killed."""
    os.sched_setaffinity(0, {core})
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command that may still run; it ends what it has started itself."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(60)
    process.kill()
    process.wait()


def main(words: Sequence[str]) -> None:
    """Run what the command line asks for and print the table."""
    args = arguments(words)
    core, other = sorted(os.sched_getaffinity(0))[:2]
    common = [
        f"experiment={args.experiment}",
        f"rollout.group_size={args.group_size}",
        f"trainer.max_steps={args.steps}",
        *args.overrides,
    ]
    runs: dict[bool, list[Steps]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name, server(common, core, Path(name)) as url:
        for turn in range(args.rounds):
            for overlap in runs:
                folder = Path(name) / f"{turn}-{overlap}"
                own = [f"seed={turn + 1}", f"engine.servers=[{url}]"]
                fitted = fit([*own, *common], overlap, other, folder)
                runs[overlap].append(fitted)
    print(f"{args.experiment}, G = {args.group_size}, {args.rounds} rounds of {args.steps} steps")
    print(table(HEADER, [row(overlap, runs[overlap]) for overlap in runs]))
    print(gain(runs[False], runs[True]))


if __name__ == "__main__":
    main(sys.argv[1:])
