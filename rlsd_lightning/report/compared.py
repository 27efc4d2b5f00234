"""One run among several, and the charts that lay them over each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlsd_lightning.report.charts import Chart, Series
from rlsd_lightning.report.contents import CONTENTS
from rlsd_lightning.report.curves import metric_kind
from rlsd_lightning.report.held_out import held_out_series, is_held_out
from rlsd_lightning.report.load import Run
from rlsd_lightning.report.metrics_csv import is_evaluation
from rlsd_lightning.report.scale import Point

COMPARED = (
    "Reward",
    "Entropy",
    "Length",
    "Clipped",
    "Lambda",
    "Gradient norm",
    "Whole step",
)
"""The charts of a single run's page that every comparison has too, each with its first quantity, in order."""
NUM_TONES = 8
"""Colours of compare.css; after them the same ones come dashed, then dotted."""

Curve = Callable[[Run], list[Point]]


@dataclass(frozen=True, slots=True)
class Compared:
    """A run with its name and its group: the runs that differ from it in nothing but the seed.

    Where all runs differ in nothing else, each is a group of its own.
    """

    run: Run
    name: str
    group: str
    tone: str

    def accuracy(self, evaluator: str) -> list[Point]:
        """The (step, accuracy) pairs of an evaluator, given by its label."""
        return _held_out(self.run, "accuracy", evaluator)


def tones(groups: Sequence[str]) -> dict[str, str]:
    """Give each group a colour of its own, in the order of their first run.

    Example:
        >>> tones(["grpo", "rlsd", "grpo"])
        {'grpo': '1', 'rlsd': '2'}
    """
    dashes = ("", " dashed", " dotted")
    return {
        group: f"{place % NUM_TONES + 1}{dashes[min(place // NUM_TONES, 2)]}"
        for place, group in enumerate(dict.fromkeys(groups))
    }


def are_averaged(runs: Sequence[Compared]) -> bool:
    """Whether curves are means over seeds: some group has several runs."""
    return len({one.group for one in runs}) < len(runs)


def evaluators(runs: Sequence[Compared], quantity: str) -> list[str]:
    """List the labels of the evaluators that measured a quantity, in any run."""
    labels = {s.label for one in runs for s in held_out_series(one.run, quantity)}
    return sorted(labels)


def held_out_charts(runs: Sequence[Compared], quantity: str, title: str) -> list[Chart]:
    """One chart per evaluator of a quantity: accuracy or leakage."""
    labels = evaluators(runs, quantity)
    return [
        _chart(
            Chart(title=title, note=label, kind="percent", series=[]),
            runs,
            lambda run, label=label: _held_out(run, quantity, label),
            dots=True,
        )
        for label in labels
    ]


def known_charts(runs: Sequence[Compared]) -> list[Chart]:
    """The charts of COMPARED that any run has data for."""
    by_title = {chart.title: chart for chart in CONTENTS}
    charts = [
        _metric_chart(by_title[title], runs, by_title[title].series[0].key) for title in COMPARED
    ]
    return [chart for chart in charts if chart.series]


def other_charts(runs: Sequence[Compared]) -> list[Chart]:
    """One chart for every other metric that at least two runs logged."""
    by_title = {chart.title: chart for chart in CONTENTS}
    listed = {by_title[title].series[0].key for title in COMPARED}
    names = sorted({name for one in runs for name in one.run.metrics} - listed)
    return [
        _metric_chart(Chart(title=name, kind=metric_kind(name), zero=False, series=[]), runs, name)
        for name in names
        if not (is_held_out(name, "accuracy") or is_held_out(name, "leakage"))
        and sum(bool(_finite(one.run, name)) for one in runs) > 1
    ]


def _metric_chart(look: Chart, runs: Sequence[Compared], name: str) -> Chart:
    return _chart(look, runs, lambda run: _finite(run, name), dots=is_evaluation(name))


def _chart(look: Chart, runs: Sequence[Compared], curve: Curve, dots: bool) -> Chart:
    """Draw a curve per run, or per group one of means with its runs faintly behind it."""
    with_data = [(one, points) for one in runs if (points := curve(one.run))]
    if not are_averaged(runs):
        series = [
            Series(label=one.name, tone=one.tone, points=points, dots=dots, noisy=not dots)
            for one, points in with_data
        ]
        return replace(look, series=series)
    behind = [
        Series(label=one.name, tone=one.tone, points=points, thin=True) for one, points in with_data
    ]
    means = []
    for group in dict.fromkeys(one.group for one, _ in with_data):
        members = [(one, points) for one, points in with_data if one.group == group]
        means.append(
            Series(
                label=group,
                tone=members[0][0].tone,
                points=mean_curve([points for _, points in members]),
                dots=dots,
            )
        )
    return replace(look, series=[*behind, *(one for one in means if one.points)])


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Average curves at the steps that all of them have.

    Example:
        >>> mean_curve([[(0, 1.0), (1, 2.0)], [(1, 4.0), (2, 5.0)]])
        [(1, 3.0)]
    """
    values = [dict(curve) for curve in curves]
    steps = set(values[0]).intersection(*values[1:])
    return [(step, sum(v[step] for v in values) / len(values)) for step in sorted(steps)]


def _held_out(run: Run, quantity: str, label: str) -> list[Point]:
    found = [one.points for one in held_out_series(run, quantity) if one.label == label]
    return found[0] if found else []


def _finite(run: Run, name: str) -> list[Point]:
    return sorted((s, v) for s, v in run.metrics.get(name, {}).items() if math.isfinite(v))
