"""Charts drawn for a page: SVG, the numbers behind it, and the values shown until the pointer asks for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rlsd_lightning.report.charts import Chart, Series
from rlsd_lightning.report.scale import show
from rlsd_lightning.report.svg import draw

SMALL = {"": (372, 190)}
OPENING = {"wide": (1152, 300), "narrow": (372, 240)}
"""Width and height by CSS class: of a chart in the grid; of an opening chart on a desk, and of the same on a phone."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, drawn."""

    chart: Chart
    pictures: list[tuple[str, Markup]]
    """(CSS class, SVG): one drawing, or one for a desk and one for a phone."""
    data: str
    key: list[tuple[Series, str]]
    """Each series that has a name, with its last value."""


def figure(
    chart: Chart,
    sizes: Mapping[str, tuple[int, int]],
    steps: tuple[int, int],
    marks: Sequence[int] = (),
    alarms: Sequence[int] = (),
) -> Figure:
    """Draw a chart once per size.

    Args:
        chart: with data.
        sizes: SMALL or OPENING.
        steps: first and last step of the axis.
        marks: steps where the run was resumed.
        alarms: steps with an alarm of the leakage probe.
    """
    pictures = [
        (name, draw(chart, width=width, height=height, steps=steps, marks=marks, alarms=alarms))
        for name, (width, height) in sizes.items()
    ]
    key = [(one, show(one.points[-1][1], chart.kind)) for one in chart.named()]
    return Figure(chart, pictures, chart.data(steps), key)


def span(charts: Sequence[Chart], last_step: int) -> tuple[int, int]:
    """Return the axis that holds all charts, up to `last_step` at least."""
    steps = [x for chart in charts for series in chart.series for x, _ in series.points]
    return int(min(steps, default=0)), max(last_step, 1)
