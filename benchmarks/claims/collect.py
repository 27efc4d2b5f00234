"""Gathers finished runs into results.csv and about.json, which is all that the page is made of.

    python -m benchmarks.claims.collect runs/claims

Runs lie in RUNS_DIR/STUDY/TASK/LABEL, each seed in a folder of its own. A run that did not finish or cannot be read is named and stops the
collection: a page that leaves out the runs that failed would say something else than what was found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from yaml import YAMLError

from benchmarks.claims.about import compare_settings, run_settings, surroundings
from benchmarks.claims.arms import DOCS, HELD_OUT, STUDIES, TRAINING, natural, write_rows
from rlsd_lightning.report.metrics_csv import Points, read_metrics
from rlsd_lightning.report.settings import Settings
from rlsd_lightning.run_folder import CONFIG, FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """What a run's folder says."""

    arm: str
    """STUDY/TASK/LABEL."""
    settings: Settings
    rows: list[dict[str, str]]
    """Of results.csv, one per evaluation."""
    seconds: float
    """Wall time."""


def main(words: Sequence[str]) -> int:
    """Collect, or say why not.

    Args:
        words: the command line.

    Returns:
        The exit status: 1 where nothing was written.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims.collect")
    parser.add_argument("runs", type=Path, help="the folder that holds STUDY/TASK/LABEL")
    parser.add_argument("--docs", type=Path, default=DOCS, help="results go to its folder claims/")
    arguments = parser.parse_args(words)
    try:
        runs = read_runs(arguments.runs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    folder = arguments.docs / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    write_rows([row for run in runs for row in run.rows], folder / "results.csv")
    about = json.dumps(about_runs(runs), indent=1) + "\n"
    (folder / "about.json").write_text(about, encoding="utf-8")
    print(f"Collected {len(runs)} runs into {folder}.")
    others = sorted(
        path.name for path in arguments.runs.iterdir() if path.is_dir() and path.name not in STUDIES
    )
    if others:
        print(f"Left out, as they are no study: {', '.join(others)}.")
    return 0


def about_runs(runs: Sequence[FinishedRun]) -> dict:
    """Everything of about.json."""
    arms: dict[str, list[Settings]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run.settings)
    return {
        **surroundings(),
        "num_runs": len(runs),
        "run_seconds": round(sum(run.seconds for run in runs)),
        "settings": compare_settings(arms),
    }


def read_runs(folder: Path) -> list[FinishedRun]:
    """Read all runs of the known studies below a folder, by study, task, label and seed.

    Raises:
        ValueError: naming every run that did not finish or cannot be read; or there is no run.
    """
    seeds = [path for study in STUDIES for path in folder.glob(f"{study}/*/*/*") if path.is_dir()]
    runs, faults = [], []
    for path in sorted(seeds, key=lambda path: natural(str(path))):
        name = path.relative_to(folder)
        try:
            runs.append(read_run(the_run_in(path), "/".join(name.parts[:3])))
        except (ValueError, KeyError, YAMLError) as error:
            faults.append(f"  {name}: {_clause(error)}")
    runs_of = Counter((run.arm, run.rows[0]["seed"]) for run in runs)
    faults += [
        f"  {arm}: has {number} runs of seed {seed}"
        for (arm, seed), number in runs_of.items()
        if number > 1
    ]
    if not seeds:
        faults.append(f"  there is no run in {folder}/STUDY/TASK/LABEL, STUDY one of {STUDIES}")
    if faults:
        raise ValueError(
            "\n".join(
                [
                    f"collect: of {len(seeds)} runs in {folder}, {len(faults)} cannot be used, needs every one of them. "
                    "Train these again, or remove their folders if they do not belong to the plan:",
                    *faults,
                ]
            )
        )
    return runs


def the_run_in(folder: Path) -> Path:
    """The one run at or below a folder.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [path.parent for path in sorted(folder.glob(f"**/{CONFIG}"))]
    if len(found) != 1:
        raise ValueError(f"holds {len(found)} runs, needs one")
    return found[0]


def _clause(error: Exception) -> str:
    """What to say of a broken run: a missing key alone would say nothing."""
    words = " ".join(str(error).split())
    return words if type(error) is ValueError else f"cannot be read: {type(error).__name__} {words}"


def read_run(path: Path, arm: str) -> FinishedRun:
    """Read one run.

    Args:
        path: its folder.
        arm: STUDY/TASK/LABEL.

    Raises:
        ValueError: what is wrong with it, as one clause.
        KeyError: a setting or result is missing.
        YAMLError: its settings are no YAML.
    """
    for file in (FINISHED, "summary.json"):
        if not (path / file).exists():
            raise ValueError(f"did not finish: there is no file {file}")
    settings = run_settings((path / CONFIG).read_text(encoding="utf-8"))
    metrics = read_metrics((path / "metrics").glob("**/metrics.csv"))
    study, task, label = arm.split("/")
    place = {"study": study, "task": task, "label": label}
    place |= {"lr": f"{settings['optim.lr']:g}", "seed": str(settings["seed"])}
    return FinishedRun(
        arm=arm,
        settings=settings,
        rows=[place | row for row in evaluation_rows(metrics, settings["trainer.max_steps"])],
        seconds=json.loads((path / "summary.json").read_text(encoding="utf-8"))["seconds"],
    )


def evaluation_rows(metrics: dict[str, Points], last_step: int) -> list[dict[str, str]]:
    """One row per evaluation, with the training metrics averaged over the steps since the one before.

    Args:
        metrics: of a run, by name.
        last_step: when the run should have ended.

    Returns:
        Rows of results.csv from `step` on; a metric that the method does not log is empty.

    Raises:
        ValueError: evaluations are missing.

    Example:
        >>> metrics = {name: {0: 0.25, 2: 0.5} for name in HELD_OUT.values()}
        >>> metrics["loss/entropy"] = {1: 1.0, 2: 3.0}
        >>> [(row["step"], row["accuracy"], row["entropy"]) for row in evaluation_rows(metrics, 2)]
        [('0', '0.25', ''), ('2', '0.5', '2')]
    """
    held_out = {column: metrics.get(name, {}) for column, name in HELD_OUT.items()}
    steps = sorted(held_out["accuracy"])
    for column, points in held_out.items():
        if sorted(points) != steps or not {0, last_step} <= set(points):
            raise ValueError(
                f"has {HELD_OUT[column]} at steps {sorted(points)}, not at each evaluation from 0 to {last_step}"
            )
    rows = []
    for before, step in zip([0, *steps], steps, strict=False):
        values = {column: points[step] for column, points in held_out.items()}
        values |= {
            column: _mean_between(metrics.get(name, {}), before, step)
            for column, name in TRAINING.items()
        }
        cells = {
            column: "" if value is None else f"{value:.6g}" for column, value in values.items()
        }
        rows.append({"step": str(step), **cells})
    return rows


def _mean_between(points: Points, before: int, step: int) -> float | None:
    values = [value for at, value in points.items() if before < at <= step]
    return fmean(values) if values else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
