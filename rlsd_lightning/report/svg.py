"""Draws a chart as inline SVG: thin grid, no frame, the same step axis everywhere.

Small on purpose: lines, dots and stacked areas over steps are all a run needs, and a plotting library would
weigh more than the page. Colours are CSS classes (tone-blue, ...), so that dark mode is the style sheet's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from rlsd_lightning.report.charts import Chart, Series, stack
from rlsd_lightning.report.scale import Point, nice_ticks, show_tick, smooth

MIN_POINTS_TO_SMOOTH = 15
_TOP, _RIGHT, _BOTTOM, _CHARACTER = 10, 10, 22, 6.8
"""Margins, and the width of a tick label's character, in SVG units (pixels at the intended size)."""


def draw(
    chart: Chart,
    *,
    width: int,
    height: int,
    steps: tuple[int, int],
    marks: Sequence[int] = (),
    alarms: Sequence[int] = (),
) -> Markup:
    """Draw a chart.

    Args:
        chart: at least one series with a finite value.
        width: of the SVG, in pixels at its intended size; it scales with the page.
        height: likewise.
        steps: first and last step of the axis.
        marks: steps where the run was resumed.
        alarms: steps with an alarm of the leakage probe.
    """
    frame = Frame(chart, width, height, steps)
    marked = [_vertical(frame, step, "mark") for step in marks]
    marked += [_vertical(frame, step, "alarm") for step in alarms]
    body = "".join(
        [
            *_grid(frame),
            *_level(chart, frame),
            *marked,
            *_data(chart, frame),
            _vertical(frame, steps[0], "cursor"),
        ]
    )
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(chart.title)}" '
        f'data-left="{frame.left}" data-right="{frame.right}">{body}</svg>'
    )


class Frame:
    """The plot area of one SVG: maps steps and values to its units."""

    def __init__(self, chart: Chart, width: int, height: int, steps: tuple[int, int]) -> None:
        self.ticks = chart.ticks()
        self.tick_labels = [
            show_tick(t, self.ticks[1] - self.ticks[0], chart.kind) for t in self.ticks
        ]
        self.left = round(10 + _CHARACTER * max(len(label) for label in self.tick_labels))
        self.right, self.top, self.bottom = width - _RIGHT, _TOP, height - _BOTTOM
        self.steps = steps

    def x(self, step: float) -> float:
        """Where a step lies."""
        first, last = self.steps
        return self.left + (step - first) / ((last - first) or 1) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Where a value lies."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def path(self, points: Sequence[Point]) -> str:
        """A polyline through the points, with a gap where a value is not finite."""
        pen, parts = "M", []
        for step, value in points:
            if not math.isfinite(value):
                pen = "M"
                continue
            parts.append(f"{pen}{self.x(step):.1f} {self.y(value):.1f}")
            pen = "L"
        return "".join(parts)


def _grid(frame: Frame) -> Iterator[str]:
    for value, label in zip(frame.ticks, frame.tick_labels, strict=True):
        y = frame.y(value)
        yield f'<path class="grid" d="M{frame.left} {y:.1f}H{frame.right}"/>'
        yield f'<text class="tick" x="{frame.left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
    first, last = frame.steps
    room = max(2, (frame.right - frame.left) // 75)
    for step in nice_ticks(first, last, room):
        if first <= step <= last and step == int(step):
            text = f"{int(step):,}"
            yield (
                f'<text class="tick" x="{frame.x(step):.1f}" y="{frame.bottom + 16}" '
                f'text-anchor="{"end" if step == last else "middle"}">{text}</text>'
            )


def _level(chart: Chart, frame: Frame) -> Iterator[str]:
    if chart.level is not None:
        yield f'<path class="level" d="M{frame.left} {frame.y(chart.level):.1f}H{frame.right}"/>'


def _vertical(frame: Frame, step: float, name: str) -> str:
    return f'<path class="{name}" d="M{frame.x(step):.1f} {frame.top}V{frame.bottom}"/>'


def _data(chart: Chart, frame: Frame) -> Iterator[str]:
    if chart.stacked:
        yield from _areas(chart, frame)
        return
    for series in chart.series:
        yield from _line(series, frame)


def _areas(chart: Chart, frame: Frame) -> Iterator[str]:
    edges = stack(chart.series)
    for series, edge in reversed(list(zip(chart.series, edges, strict=True))):
        floor = (
            f"L{frame.x(edge[-1][0]):.1f} {frame.bottom}L{frame.x(edge[0][0]):.1f} {frame.bottom}Z"
        )
        yield f'<path class="area tone-{series.tone}" d="{frame.path(edge)}{floor}"/>'


def _line(series: Series, frame: Frame) -> Iterator[str]:
    points = series.points
    if series.thin:
        yield f'<path class="faint tone-{series.tone}" d="{frame.path(points)}"/>'
        return
    if series.noisy and len(points) >= MIN_POINTS_TO_SMOOTH:
        yield f'<path class="faint tone-{series.tone}" d="{frame.path(points)}"/>'
        finite = [(x, y) for x, y in points if math.isfinite(y)]
        points = smooth(finite, window=max(7, len(finite) // 20))
    yield f'<path class="line tone-{series.tone}" d="{frame.path(points)}"/>'
    if series.dots or len(points) == 1:
        for x, y in points:
            if math.isfinite(y):
                yield f'<circle class="dot tone-{series.tone}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"/>'
