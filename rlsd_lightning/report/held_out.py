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
            points=_held_out_points(run, name),
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
        >>> held_out_label("val/shapes/accuracy")
        'held out: shapes'
    """
    return "held out: " + (name.split("/", 1)[1].rsplit("/", 1)[0] if name.count("/") > 1 else name)


def _held_out_points(run: Run, name: str) -> list[Point]:
    """Add the measurements around the training to those within it.

    A validation before the training is logged like one after the first step; where it says the same as the
    warm start it is that one.
    """
    points = dict(run.metrics.get(name, {}))
    before, after = _results(run, "warm_start").get(name), _results(run, "final").get(name)
    if before is not None:
        if points.get(1) == before:
            del points[1]
        points[0] = before
    if after is not None:
        points[run.last_step] = after
    return sorted(points.items())


def _results(run: Run, when: str) -> dict[str, float]:
    return {
        name: value
        for name, value in (run.summary.get(when) or {}).items()
        if isinstance(value, int | float)
    }
