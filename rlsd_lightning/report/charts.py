"""What a chart is, before it is drawn: quantities over optimizer steps that share an axis."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlsd_lightning.report.scale import Point, nice_ticks, thin


@dataclass(slots=True, kw_only=True)
class Series:
    """One quantity over steps."""

    label: str
    tone: str
    """Which colour of the style sheet: blue, orange, green, purple or grey."""
    key: str = ""
    """The metric it shows."""
    points: list[Point] = field(default_factory=list)
    """(step, value), sorted by step."""
    dots: bool = False
    """Draw each point: measured now and then, not at each step."""
    noisy: bool = False
    """Draw a running mean over the faint points."""
    thin: bool = False
    """Draw it faintly and without a name: one of several that another series sums up."""

    def __post_init__(self) -> None:
        self.points = thin(self.points)


@dataclass(slots=True, kw_only=True)
class Chart:
    """Quantities that share an axis."""

    title: str
    note: str = ""
    """What the title leaves open, in a few words."""
    series: list[Series]
    kind: str = "number"
    """How values are written: percent, count, seconds, factor or number."""
    zero: bool = True
    """The axis starts at 0."""
    level: float | None = None
    """A value worth a line of its own."""
    stacked: bool = False
    """Areas on top of each other instead of lines."""

    def named(self) -> list[Series]:
        """The series that stand in the chart's key."""
        return [series for series in self.series if not series.thin]

    def values(self) -> list[float]:
        """All values that the axis has to hold."""
        if self.stacked:
            return [y for line in stack(self.series) for _, y in line]
        return [y for series in self.series for _, y in series.points if math.isfinite(y)]

    def ticks(self) -> list[float]:
        """Round numbers around all values."""
        fixed = ([0.0] if self.zero else []) + ([] if self.level is None else [self.level])
        values = self.values() + fixed
        low, high = min(values), max(values)
        return nice_ticks(low, 1.0 if self.kind == "percent" and high > 0.5 else high)

    def data(self, steps: tuple[int, int]) -> str:
        """What the page's script needs to say values under the pointer, as JSON.

        Args:
            steps: first and last step of the axis.
        """
        series = [
            {
                "x": [round(x, 1) for x, _ in one.points],
                "y": [_short(y) for _, y in one.points],
                "dots": one.dots,
            }
            for one in self.named()
        ]
        whole = {"kind": self.kind, "steps": steps, "series": series}
        return json.dumps(whole, separators=(",", ":"))


def stack(series: Sequence[Series]) -> list[list[Point]]:
    """Add up series from the first to the last: the upper edges of their areas.

    Example:
        >>> a = Series(label="a", points=[(1, 1.0), (2, 2.0)], tone="")
        >>> b = Series(label="b", points=[(2, 5.0)], tone="")
        >>> stack([a, b])
        [[(1, 1.0), (2, 2.0)], [(1, 1.0), (2, 7.0)]]
    """
    steps = sorted({x for one in series for x, _ in one.points})
    total = dict.fromkeys(steps, 0.0)
    edges = []
    for one in series:
        for x, y in one.points:
            total[x] += y if math.isfinite(y) else 0.0
        edges.append(list(total.items()))
    return edges


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
