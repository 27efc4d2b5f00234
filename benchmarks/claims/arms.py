"""results.csv: what the page is made of, one row per run and evaluation; and the arms that its rows belong to."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
TRAINING = {
    "reward": "rollout/reward_mean",
    "entropy": "loss/entropy",
    "completion_tokens": "rollout/completion_tokens_mean",
    "clipped_fraction": "credit/clipped_fraction",
    "clip_high_fraction": "loss/clip_high_fraction",
    "lambda": "credit/lambda",
    "zero_variance_fraction": "rollout/zero_variance_fraction",
    "step_s": "time/step_s",
}
"""Column -> training metric, which the column averages over the steps since the previous evaluation."""
HELD_OUT = {
    "accuracy": "val/held_out/accuracy",
    "leakage": "val/held_out/leakage",
    "num_responses": "val/held_out/num_responses",
}
"""Column -> metric of the evaluation."""
COLUMNS = ("study", "task", "label", "lr", "seed", "step", *HELD_OUT, *TRAINING)

STUDIES = ("main", "long", "lr", "ablation")
TASKS = ("shapes", "digits", "shapes_long", "digits_long")
ORDER = ("grpo", "rlsd", "rlsd_plus", "opsd", "opsd_distribution", "sdpo", "grpo_opsd")
"""Studies, tasks and labels that come first, in this order; others follow by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Runs that differ only in their seed."""

    study: str
    task: str
    label: str
    lr: float
    seeds: tuple[int, ...]
    """[S]"""
    steps: tuple[int, ...]
    """When was evaluated; 0 = the warm start. [N]"""
    accuracy: list[list[float]]
    """Held-out accuracy. [S, N]"""
    leakage: list[list[float]]
    """The share of held-out answers that appeal to a reference nobody gave. [S, N]"""
    num_responses: int
    """Held-out answers that were judged at each evaluation."""
    training: dict[str, list[list[float | None]]]
    """What TRAINING lists, by column; None before the first step and where the method logs no such thing. [S, N]"""


def read_arms(path: Path) -> list[Arm]:
    """Read results.csv.

    Raises:
        ValueError: the runs of an arm differ in more than their seed.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows.sort(key=_place)
    groups = itertools.groupby(rows, key=lambda row: (row["study"], row["task"], row["label"]))
    return [_arm(name, list(members)) for name, members in groups]


def _place(row: dict[str, str]) -> tuple:
    study, task = _ranked(row["study"], STUDIES), _ranked(row["task"], TASKS)
    return study, task, order(row["label"]), int(row["seed"]), int(row["step"])


def _ranked(name: str, known: Sequence[str]) -> tuple[int, tuple]:
    return known.index(name) if name in known else len(known), natural(name)


def _arm(name: tuple[str, str, str], rows: list[dict[str, str]]) -> Arm:
    study, task, label = name
    runs = [list(run) for _, run in itertools.groupby(rows, key=lambda row: int(row["seed"]))]
    steps = {tuple(int(row["step"]) for row in run) for run in runs}
    lrs = {float(row["lr"]) for row in rows}
    if len(steps) > 1 or len(lrs) > 1:
        raise ValueError(
            f"results.csv: the runs of {study}/{task}/{label} have learning rates {sorted(lrs)} and evaluations at "
            f"{sorted(steps)}, need one of each. Runs of one label may differ in their seed only: train those that "
            "are left from an earlier plan again."
        )
    return Arm(
        study=study,
        task=task,
        label=label,
        lr=lrs.pop(),
        seeds=tuple(int(run[0]["seed"]) for run in runs),
        steps=steps.pop(),
        accuracy=[[float(row["accuracy"]) for row in run] for run in runs],
        leakage=[[float(row["leakage"]) for row in run] for run in runs],
        num_responses=int(rows[0]["num_responses"]),
        training={
            column: [[float(row[column]) if row[column] else None for row in run] for run in runs]
            for column in TRAINING
        },
    )


def write_rows(rows: Iterable[dict[str, str]], path: Path) -> None:
    """Write results.csv, in the order of the page."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=_place))


def of_study(arms: Sequence[Arm], study: str) -> dict[str, list[Arm]]:
    """The arms of a study by task."""
    chosen = [arm for arm in arms if arm.study == study]
    return {
        task: list(members) for task, members in itertools.groupby(chosen, lambda arm: arm.task)
    }


def find(arms: Iterable[Arm], label: str) -> Arm | None:
    """The arm of that label; None if it was not run."""
    return next((arm for arm in arms if arm.label == label), None)


def order(label: str) -> tuple:
    """Sort the known methods first, then other labels by name, numbers by size.

    Example:
        >>> sorted(["clip_0.5", "clip_0.1", "rlsd@8e-4", "rlsd@1e-3", "rlsd", "grpo"], key=order)
        ['grpo', 'rlsd', 'rlsd@8e-4', 'rlsd@1e-3', 'clip_0.1', 'clip_0.5']
    """
    method, _, rest = label.partition("@")
    return _ranked(method, ORDER), natural(rest)


def natural(text: str) -> tuple:
    """Sort words by letters and numbers by size.

    Example:
        >>> sorted(["lambda_1", "lambda_0.5", "lambda_0.25"], key=natural)
        ['lambda_0.25', 'lambda_0.5', 'lambda_1']
    """
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return tuple(
        (0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts)
    )
