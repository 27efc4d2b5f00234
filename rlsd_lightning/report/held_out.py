"""What the evaluators measured before, during and after the training."""

from __future__ import annotations

from rlsd_lightning.report.charts import Series
from rlsd_lightning.report.load import Run
from rlsd_lightning.report.metrics_csv import is_evaluation
from rlsd_lightning.report.scale import Point

TONES = ("blue", "orange", "green", "purple")
"""Colours of the evaluators, in turn; training is grey."""


def held_out_series(run: Run, quantity: str) -> list[Series]:
    """One series per evaluator, from before the first step to after the last."""
    names = {
        name
        for name in (*run.metrics, *_results(run, "warm_start"), *_results(run, "final"))
        if is_held_out(name, quantity)
    }
    tones = {name: TONES[index % len(TONES)] for index, name in enumerate(sorted(names))}
    return [
        Series(
            label=held_out_label(name),
            points=_points(run, name),
            tone=tones[name],
            dots=True,
        )
        for name in sorted(names)
    ]


def is_held_out(name: str, quantity: str) -> bool:
    """Whether a metric is an evaluator's `quantity`.

    Example:
        >>> is_held_out("val/shapes/accuracy", "accuracy"), is_held_out("rollout/accuracy", "accuracy")
        (True, False)
    """
    return is_evaluation(name) and name.endswith("/" + quantity)


def held_out_label(name: str) -> str:
    """Name an evaluator for a reader.

    Example:
        >>> held_out_label("val/shapes/accuracy"), held_out_label("val/held_out/accuracy")
        ('held out: shapes', 'held out')
    """
    evaluator = "/".join(name.split("/")[1:-1]).replace("_", " ")
    return "held out" if evaluator in ("", "held out") else f"held out: {evaluator}"


def _points(run: Run, name: str) -> list[Point]:
    """Add the measurements around the training to those within it."""
    points = dict(run.metrics.get(name, {}))
    for when, step in (("warm_start", 0), ("final", run.last_step)):
        if name in _results(run, when):
            points[step] = _results(run, when)[name]
    return sorted(points.items())


def _results(run: Run, when: str) -> dict[str, float]:
    return {
        name: value
        for name, value in (run.summary.get(when) or {}).items()
        if isinstance(value, int | float)
    }
