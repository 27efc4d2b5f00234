"""The table of a comparison: what each run reached, when, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlsd_lightning.report.compared import Compared, are_averaged
from rlsd_lightning.report.held_out import held_out_series
from rlsd_lightning.report.scale import Point, duration, show

Number = float | None
"""None where a run has no such number."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line: a run, or the mean over the runs of a group."""

    name: str
    tone: str
    is_mean: bool
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Results:
    """The results by one evaluator."""

    title: str
    """The evaluator; empty if none measured accuracy."""
    columns: list[str]
    lines: list[Result]


def thresholds(curves: Sequence[Sequence[Point]]) -> list[float]:
    """Choose three levels that tell runs apart: a quarter, half and three quarters of the way that was gone.

    The way goes from the lowest start to the highest value of all runs; levels are whole percents.

    Args:
        curves: (step, accuracy) of each run.

    Example:
        >>> thresholds([[(0, 0.2), (10, 0.5)], [(0, 0.25), (10, 0.6)]])
        [0.3, 0.4, 0.5]
    """
    curves = [curve for curve in curves if curve]
    if not curves:
        return []
    low = min(curve[0][1] for curve in curves)
    high = max(value for curve in curves for _, value in curve)
    levels = [round(low + share * (high - low), 2) for share in (0.25, 0.5, 0.75)]
    return [level for level in dict.fromkeys(levels) if low < level <= high]


def steps_to(curve: Sequence[Point], level: float) -> Number:
    """Return the first measured step at or above a level; None if there is none.

    Example:
        >>> steps_to([(0, 0.1), (20, 0.5), (40, 0.4)], 0.4), steps_to([(0, 0.1)], 0.4)
        (20, None)
    """
    return next((step for step, value in curve if value >= level), None)


def results(runs: Sequence[Compared], evaluator: str) -> Results:
    """Tabulate all runs by one evaluator; groups of several runs get a line of means first.

    Args:
        runs: in the order of the table.
        evaluator: its label; empty for runs without any.
    """
    curves = {one.name: one.accuracy(evaluator) for one in runs}
    levels = thresholds(list(curves.values()))
    columns = ["steps"]
    if evaluator:
        columns += ["at first", "final", "best", *(f"steps to {level:.0%}" for level in levels)]
    columns += ["leakage", "time", "s/step"]
    lines = []
    for group in dict.fromkeys(one.group for one in runs):
        members = [one for one in runs if one.group == group]
        rows = [_numbers(one, evaluator, curves[one.name], levels) for one in members]
        if are_averaged(runs) and len(members) > 1:
            means = [
                _mean_cell(c, column)
                for c, column in zip(columns, zip(*rows, strict=True), strict=True)
            ]
            lines.append(Result(f"{group}: mean of {len(members)}", members[0].tone, True, means))
        for one, row in zip(members, rows, strict=True):
            cells = [_cell(c, value) for c, value in zip(columns, row, strict=True)]
            lines.append(Result(one.name, one.tone, False, cells))
    return _without_empty(Results(evaluator, columns, lines))


def _numbers(
    one: Compared, evaluator: str, curve: list[Point], levels: list[float]
) -> list[Number]:
    values = [value for _, value in curve]
    accuracy: list[Number] = []
    if evaluator:
        ends = [values[0], values[-1], max(values)] if values else [None] * 3
        accuracy = [*ends, *(steps_to(curve, level) for level in levels)]
    leakage = [s.points[-1][1] for s in held_out_series(one.run, "leakage")]
    paces = [v for v in one.run.metrics.get("time/step_s", {}).values() if math.isfinite(v)]
    return [
        one.run.last_step,
        *accuracy,
        max(leakage, default=None),
        one.run.summary.get("seconds"),
        sum(paces) / len(paces) if paces else None,
    ]


def _cell(column: str, value: Number) -> str:
    if value is None:
        return "not reached" if column.startswith("steps to") else "-"
    if column in ("at first", "final", "best", "leakage"):
        return show(value, "percent")
    if column == "time":
        return duration(value)
    return show(value, "seconds").removesuffix(" s") if column == "s/step" else show(value, "count")


def _mean_cell(column: str, values: Sequence[Number]) -> str:
    """The mean, if every run has the number; how many runs reached a threshold, if not all did."""
    there = [value for value in values if value is not None]
    if len(there) == len(values):
        return _cell(column, sum(there) / len(there))
    if column.startswith("steps to"):
        return f"{len(there)} of {len(values)} reached"
    return "-"


def _without_empty(table: Results) -> Results:
    """Leave out columns that no run has a number for."""
    kept = [
        i
        for i, column in enumerate(table.columns)
        if any(line.cells[i] != "-" for line in table.lines)
    ]
    lines = [
        Result(line.name, line.tone, line.is_mean, [line.cells[i] for i in kept])
        for line in table.lines
    ]
    return Results(table.title, [table.columns[i] for i in kept], lines)
