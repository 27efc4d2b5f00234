"""Builds report.html: reads the run's folder, chooses, draws, fills the template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rlsd_lightning.records import write_atomically
from rlsd_lightning.report import curves, samples
from rlsd_lightning.report.charts import Chart
from rlsd_lightning.report.headline import facts, headline
from rlsd_lightning.report.heatmap import heatmap_steps, page_name
from rlsd_lightning.report.images import data_uri
from rlsd_lightning.report.load import MAX_ROWS_PER_STEP, Run, load_run
from rlsd_lightning.report.scale import show
from rlsd_lightning.report.svg import draw
from rlsd_lightning.report.template import render

MAX_SKIPPED_ROWS = 50
"""Skipped rows that are listed; the rest is counted."""
_SMALL, _WIDE, _NARROW = (372, 190), (1152, 300), (372, 240)
"""Width and height of a chart in the grid, of the opening chart on a desk, and of the same on a phone."""


def write_report(run_dir: Path) -> Path:
    """Build the page about a run from what its folder holds so far.

    Args:
        run_dir: folder with config.yaml, metrics/**/metrics.csv, rollouts/step_*.jsonl and summary.json; what is
            missing is said in the page.

    Returns:
        The path of report.html.

    Raises:
        ValueError: the folder does not exist.
    """
    run = load_run(Path(run_dir))
    path = run.path / "report.html"
    write_atomically(path, _page(run).encode())
    return path


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, drawn."""

    chart: Chart
    pictures: list[tuple[str, Markup]]
    """(CSS class, SVG): one drawing, or one for a desk and one for a phone."""
    data: str
    latest: list[str]
    """The last value of each series, as shown until the pointer asks for another."""


def _page(run: Run) -> str:
    chosen, scales = samples.choose(run.recorded, run.path / "rollouts")
    return render(
        "page.html.j2",
        styles=["style.css"],
        scripts=["charts.js", "tokens.js"],
        run=run,
        title=headline(run),
        facts=facts(run),
        **_figures(run),
        samples=chosen,
        scales=scales,
        **_heatmaps(run.path / "heatmaps"),
        max_rows=MAX_ROWS_PER_STEP,
        skipped=run.summary.get("skipped_rows") or [],
        max_skipped=MAX_SKIPPED_ROWS,
        filtered=run.summary.get("filtered_prompts") or 0,
    )


def _heatmaps(folder: Path) -> dict[str, Any]:
    """Name the pages of the heatmap callback, and show the newest one's picture."""
    pages = [(step, f"heatmaps/{page_name(step)}") for step in heatmap_steps(folder)]
    newest = folder / Path(pages[-1][1]).with_suffix(".png").name if pages else None
    picture = data_uri("png", newest.read_bytes()) if newest and newest.exists() else ""
    return {"heatmaps": pages, "newest_heatmap": picture}


def _figures(run: Run) -> dict[str, Any]:
    """Draw all charts on one axis of steps."""
    accuracy, others = curves.accuracy_chart(run), curves.other_charts(run)
    known, absent = curves.known_charts(run)
    all_steps = [
        x
        for chart in (accuracy, *known, *others)
        for series in chart.series
        for x, _ in series.points
    ]
    steps = (int(min(all_steps, default=0)), max(run.last_step, 1))
    marks = run.summary.get("resumed_at_steps") or []

    def figure(chart: Chart, sizes: dict[str, tuple[int, int]]) -> Figure:
        pictures = [
            (name, draw(chart, width=width, height=height, steps=steps, marks=marks))
            for name, (width, height) in sizes.items()
        ]
        latest = [show(series.points[-1][1], chart.kind) for series in chart.series]
        return Figure(chart, pictures, chart.data(steps), latest)

    return {
        "opening": figure(accuracy, {"wide": _WIDE, "narrow": _NARROW})
        if accuracy.series
        else None,
        "figures": [figure(chart, {"": _SMALL}) for chart in known],
        "other_figures": [figure(chart, {"": _SMALL}) for chart in others],
        "absent": absent,
        "marks": marks,
    }
