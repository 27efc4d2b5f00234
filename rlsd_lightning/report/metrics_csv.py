"""Reads the metrics.csv files of a run: one per start, merged by optimizer step."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Points = dict[int, float]
"""Optimizer step (1 = the first update; 0 = before it) -> value."""


def read_metrics(paths: Iterable[Path]) -> dict[str, Points]:
    """Merge the metrics of all starts of a run; where they overlap, the later start wins.

    Args:
        paths: .../version_0/metrics.csv, ..., in any order.

    Returns:
        Points by metric name.
    """
    metrics: dict[str, Points] = {}
    for path in sorted(paths, key=_natural):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                _add_row(metrics, row)
    return metrics


def _add_row(metrics: dict[str, Points], row: dict[str, Any]) -> None:
    """Add one line of a metrics.csv, whose step column counts the updates up to what it says."""
    step = _number(row.get("step"))
    if step is None:
        return
    for name, text in row.items():
        value = _number(text)
        if value is not None and name not in ("step", "epoch"):
            metrics.setdefault(name, {})[int(step)] = value


def is_evaluation(name: str) -> bool:
    """Whether a metric comes from an evaluator.

    Example:
        >>> is_evaluation("val/shapes/accuracy"), is_evaluation("rollout/accuracy")
        (True, False)
    """
    return name.startswith(("val/", "test/"))


def _number(text: Any) -> float | None:
    """Read one cell; None for an empty one, or the half-written last one of a killed run."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _natural(path: Path) -> list[Any]:
    """Sort version_10 after version_2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
