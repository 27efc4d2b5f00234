"""Makes the runs that the claims are judged by, then the results and the page.

    python -m benchmarks.claims.run --seeds 5

Two processes work off the sweeps of plan.py, each sweep one `python -m rlsd_lightning fit --multirun
experiment=claims ...`. Runs that are finished are not made again: a stopped comparison goes on where it was.
With 5 seeds or more the results and the page go to docs/, with fewer to runs/claims/docs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.claims import collect, page
from benchmarks.claims.plan import (
    LONG_TASKS,
    SHORT_TASKS,
    TUNED,
    USUAL_RATE,
    Sweep,
    ablation_sweeps,
    best_rates,
    long_sweeps,
    main_sweeps,
    rate_sweeps,
)

_ACCURACY = "val/held_out/accuracy"
_TAIL_LINES = 15
FULL_SEEDS = 5
"""With fewer, the comparison is a first look: no search for learning rates, and a page in the runs folder."""


def main(words: Sequence[str]) -> int:
    """Run the whole comparison.

    Args:
        words: the command line.

    Returns:
        The exit status: 1 where a run failed, which is told.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims.run")
    parser.add_argument("--seeds", type=int, default=5, help="reported runs per method and task")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where tasks are kept")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    arguments = parser.parse_args(words)
    started = time.monotonic()
    crew = Crew(arguments.runs, arguments.data, arguments.workers)
    try:
        crew.prepare([*SHORT_TASKS, *LONG_TASKS])
        crew.work(
            [
                *long_sweeps(arguments.seeds, _rates(crew, arguments.seeds)),
                *main_sweeps(arguments.seeds),
                *ablation_sweeps(arguments.seeds),
            ]
        )
    except RunFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"All runs are there after {(time.monotonic() - started) / 60:.0f} min.", flush=True)
    is_full = arguments.seeds >= FULL_SEEDS
    docs = ["--docs", str(collect.DOCS if is_full else arguments.runs / "claims" / "docs")]
    return collect.main([str(arguments.runs / "claims"), *docs]) or page.main(docs)


def _rates(crew: Crew, num_seeds: int) -> dict[tuple[str, str], str]:
    """Return each method's learning rate on the long tasks: the best of those tried, or for a first look the usual one."""
    if num_seeds < FULL_SEEDS:
        return {(task, label): USUAL_RATE for task in LONG_TASKS for label in TUNED}
    sweeps = rate_sweeps()
    crew.work(sweeps)
    finals = {}
    for sweep in sweeps:
        label, rate = sweep.label.split("@")
        finals[sweep.task, label, rate] = crew.final_accuracies(sweep)
    return best_rates(finals)


class RunFailedError(RuntimeError):
    """A command of the comparison that did not end well."""


class Crew:
    """Works off sweeps, several at a time.

    Args:
        runs: the project's paths.runs.
        data: the project's paths.data.
        num_workers: commands at a time.
    """

    def __init__(self, runs: Path, data: Path, num_workers: int) -> None:
        self.runs = runs.absolute()
        self.data = data.absolute()
        self.num_workers = num_workers

    def prepare(self, tasks: Iterable[str]) -> None:
        """Draw the tasks and warm their models up, side by side, before the first run needs them."""
        with ThreadPoolExecutor(self.num_workers) as pool:
            list(pool.map(self._prepare, tasks))

    def work(self, sweeps: Sequence[Sweep]) -> None:
        """Make all runs of the sweeps that are not there yet."""
        with ThreadPoolExecutor(self.num_workers) as pool:
            for number, sweep in enumerate(pool.map(self._run, sweeps), start=1):
                print(f"{number}/{len(sweeps)} {sweep.name}", flush=True)

    def folder(self, sweep: Sweep, seed: int) -> Path:
        """Return where the run of a seed lies."""
        return self.runs / sweep.name / f"seed={seed}" / "version_0"

    def final_accuracies(self, sweep: Sweep) -> list[float]:
        """Return the held-out accuracy after the last step, one per seed."""
        summaries = [self.folder(sweep, seed) / "summary.json" for seed in sweep.seeds]
        return [json.loads(path.read_text())["final"][_ACCURACY] for path in summaries]

    def _prepare(self, task: str) -> None:
        command = ["validate", "experiment=claims", f"claims/task={task}", "checkpoint=null"]
        limits = ["trainer.limit_val_batches=1", "exp_manager.name=claims/prepare"]
        self._call([*command, *limits], f"preparation of {task}")

    def _run(self, sweep: Sweep) -> Sweep:
        missing = [
            seed for seed in sweep.seeds if not (self.folder(sweep, seed) / "finished").exists()
        ]
        if missing:
            seeds = ",".join(map(str, missing))
            settings = ["experiment=claims", f"claims/task={sweep.task}", *sweep.overrides]
            place = [f"exp_manager.name={sweep.name}", f"seed=choice({seeds})"]
            self._call(["fit", "--multirun", *settings, *place], sweep.name)
        return sweep

    def _call(self, words: Sequence[str], what: str) -> None:
        command = [
            *(sys.executable, "-m", "rlsd_lightning", *words),
            *(f"paths.runs={self.runs}", f"paths.data={self.data}"),
        ]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=one_thread, check=False)
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-_TAIL_LINES:])
            raise RunFailedError(f"{what} failed ({' '.join(command)}):\n{tail}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
