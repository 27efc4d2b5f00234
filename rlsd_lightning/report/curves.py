"""Fills the charts of a run with its numbers."""

from __future__ import annotations

import math
from dataclasses import replace

from rlsd_lightning.report.charts import Chart, Series
from rlsd_lightning.report.contents import CONTENTS
from rlsd_lightning.report.held_out import held_out_series, is_held_out
from rlsd_lightning.report.load import Run
from rlsd_lightning.report.metrics_csv import is_evaluation

_KINDS = {"_fraction": "percent", "_s": "seconds"}


def accuracy_chart(run: Run) -> Chart:
    """The chart that the page opens with: accuracy held out, and in training."""
    series = held_out_series(run, "accuracy")
    training = Series(key="rollout/accuracy", label="training", tone="grey", noisy=True)
    return Chart(
        title="Accuracy",
        note="share of right answers, sampled",
        kind="percent",
        series=series + _filled(run, [training]),
    )


def known_charts(run: Run) -> tuple[list[Chart], list[str]]:
    """The charts of CONTENTS that the run has data for, leakage second, and the titles of the others."""
    charts = [replace(chart, series=_filled(run, chart.series)) for chart in CONTENTS]
    leakage = Chart(
        title="Leakage",
        note="held-out answers that cite the reference",
        kind="percent",
        series=held_out_series(run, "leakage"),
    )
    charts.insert(1, leakage)
    absent = [chart.title for chart in charts if not chart.series]
    return [chart for chart in charts if chart.series], absent


def other_charts(run: Run) -> list[Chart]:
    """One chart for every other metric that was logged."""
    listed = {series.key for chart in CONTENTS for series in chart.series} | {"rollout/accuracy"}
    others = (name for name in sorted(run.metrics) if name not in listed)
    return [
        _plain_chart(run, name)
        for name in others
        if _has_data(run, name)
        and not (is_held_out(name, "accuracy") or is_held_out(name, "leakage"))
    ]


def _filled(run: Run, series: list[Series]) -> list[Series]:
    """Give each series its points; leave out those without any."""
    return [
        replace(one, points=sorted(run.metrics[one.key].items()))
        for one in series
        if _has_data(run, one.key)
    ]


def _plain_chart(run: Run, name: str) -> Chart:
    rare = is_evaluation(name)
    series = Series(key=name, label=name.rsplit("/", 1)[-1], tone="grey", dots=rare, noisy=not rare)
    return Chart(title=name, series=_filled(run, [series]), kind=metric_kind(name), zero=False)


def metric_kind(name: str) -> str:
    """Say how the values of a metric that nobody described are written, by the end of its name.

    Example:
        >>> metric_kind("time/load_s"), metric_kind("teacher/version")
        ('seconds', 'number')
    """
    return next((kind for end, kind in _KINDS.items() if name.endswith(end)), "number")


def _has_data(run: Run, name: str) -> bool:
    return any(math.isfinite(value) for value in run.metrics.get(name, {}).values())
