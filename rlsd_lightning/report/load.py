"""Reads what a run left in its folder; what is missing or broken becomes a note, never a crash."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlsd_lightning.report.metrics_csv import Points, read_metrics

MAX_ROWS_PER_STEP = 512
"""Completions read of a step: enough to choose samples from, little enough to be quick."""
_CREDIT_TARGET = re.compile(r"^credit:\n(?: .*\n)*? +_target_: *[\w.]*?(\w+)$", re.MULTILINE)
_STEP_FILE = re.compile(r"step_(\d+)(?:\.rank\d+)?\.jsonl")


@dataclass(slots=True)
class Run:
    """Everything the page is made of."""

    path: Path
    metrics: dict[str, Points] = field(default_factory=dict)
    """By metric name."""
    recorded: list[tuple[int, list[dict[str, Any]]]] = field(default_factory=list)
    """Up to three recorded steps (first, middle, last), each with its completions."""
    summary: dict[str, Any] = field(default_factory=dict)
    """What the run says about itself at its end."""
    config: str = ""
    """The resolved configuration as YAML text."""
    alarms: list[dict[str, Any]] = field(default_factory=list)
    """What alarms.jsonl holds: step, metric, value, threshold, action."""
    notes: list[str] = field(default_factory=list)
    """What is missing or could not be read, in sentences for the page."""

    @property
    def name(self) -> str:
        """The folder's name with its parent's, which tells versions of one experiment apart."""
        return "/".join(self.path.resolve().parts[-2:])

    @property
    def method(self) -> str:
        """The class that assigned the credit, by the configuration; empty if that does not say."""
        match = _CREDIT_TARGET.search(self.config)
        return match[1] if match else ""

    @property
    def started(self) -> str:
        """When the run began, in words; empty if it does not say."""
        seconds = self.summary.get("started")
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC" if seconds else ""

    @property
    def command(self) -> str:
        """The command line as one would type it; empty if the run does not say."""
        program, *arguments = self.summary.get("command") or [""]
        typed = Path(program).name
        if typed == "__main__.py":
            typed = "python -m rlsd_lightning"
        return " ".join([typed, shlex.join(arguments).removeprefix("command=")]).strip()

    @property
    def last_step(self) -> int:
        """The last optimizer step that anything is known of."""
        steps = [max(points) for points in self.metrics.values() if points]
        return max([*steps, *(step for step, _ in self.recorded)], default=0)


def load_run(run_dir: Path, with_rollouts: bool = True) -> Run:
    """Read a run's folder.

    Args:
        run_dir: the folder.
        with_rollouts: read recorded completions too, which are most of what a folder holds.

    Raises:
        ValueError: there is no such folder.
    """
    if not run_dir.is_dir():
        raise ValueError(
            f"report: {run_dir} is not a folder, needs the folder of a run (with metrics/, rollouts/, "
            "config.yaml, summary.json). Give the path that the run printed when it started."
        )
    run = Run(path=run_dir)
    _read_config(run)
    _read_summary(run)
    _read_alarms(run)
    _read_metrics(run)
    if with_rollouts:
        _read_rollouts(run)
    return run


def _read_config(run: Run) -> None:
    path = run.path / "config.yaml"
    if path.exists():
        run.config = path.read_text(encoding="utf-8", errors="replace")
    else:
        run.notes.append("There is no config.yaml, so the configuration cannot be shown.")


def _read_summary(run: Run) -> None:
    path = run.path / "summary.json"
    if not path.exists():
        run.notes.append("There is no summary.json yet: the run is still going, or was killed.")
        return
    try:
        run.summary = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        run.notes.append(f"summary.json could not be read ({error}).")


def _read_alarms(run: Run) -> None:
    """Read the probe's alarms; most runs have none, so that their file is missing says nothing."""
    path = run.path / "alarms.jsonl"
    if not path.exists():
        return
    try:
        rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
        run.alarms = [json.loads(row) for row in rows]
    except json.JSONDecodeError as error:
        run.notes.append(f"alarms.jsonl could not be read ({error}).")


def _read_metrics(run: Run) -> None:
    paths = list((run.path / "metrics").glob("**/metrics.csv"))
    if not paths:
        run.notes.append("There is no metrics.csv under metrics/, so there are no curves.")
    run.metrics = read_metrics(paths)


def _read_rollouts(run: Run) -> None:
    """Read the first, middle and last step, preferably ones with tokens."""
    files: dict[int, list[Path]] = {}
    for path in sorted((run.path / "rollouts").glob("step_*.jsonl")):
        if match := _STEP_FILE.fullmatch(path.name):
            files.setdefault(int(match[1]), []).append(path)
    if not files:
        run.notes.append(
            "There are no recorded completions under rollouts/, so no samples can be shown."
        )
        return
    detailed = [step for step in files if _has_tokens(files[step][0])]
    if not detailed:
        run.notes.append(
            "No recorded step holds its tokens, so completions are shown without their credit."
        )
    for step in landmarks(sorted(detailed or files)):
        run.recorded.append((step, _read_rows(run, files[step])))


def landmarks(steps: list[int]) -> list[int]:
    """Pick the first step, the last one, and the one nearest to their middle.

    Example:
        >>> landmarks([1, 10, 20, 30, 80])
        [1, 30, 80]
        >>> landmarks([5])
        [5]
    """
    middle = (steps[0] + steps[-1]) / 2
    return sorted({steps[0], min(steps, key=lambda step: abs(step - middle)), steps[-1]})


def _has_tokens(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return '"credit": [' in file.readline()


def _read_rows(run: Run, paths: list[Path]) -> list[dict[str, Any]]:
    rows = []
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(itertools.islice(file, MAX_ROWS_PER_STEP), start=1):
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    run.notes.append(
                        f"{path.name}, line {number}, could not be read and is left out."
                    )
    return rows
