"""Builds report.html: reads the run's folder, chooses, draws, fills the template."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rlsd_lightning.records import write_atomically
from rlsd_lightning.report import curves, samples
from rlsd_lightning.report.figures import OPENING, SMALL, figure, span
from rlsd_lightning.report.headline import facts, headline
from rlsd_lightning.report.heatmap import heatmap_steps, page_name
from rlsd_lightning.report.images import data_uri
from rlsd_lightning.report.load import MAX_ROWS_PER_STEP, Run, load_run
from rlsd_lightning.report.template import render

MAX_SKIPPED_ROWS = 50
"""Skipped rows that are listed; the rest is counted."""
MAX_ALARMS = 10
"""Alarms that are listed; the rest is counted."""


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
        max_alarms=MAX_ALARMS,
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
    steps = span([accuracy, *known, *others], run.last_step)
    marks = run.summary.get("resumed_at_steps") or []
    alarms = sorted({alarm["step"] for alarm in run.alarms})
    drawn = partial(figure, steps=steps, marks=marks, alarms=alarms)
    return {
        "opening": drawn(accuracy, OPENING) if accuracy.series else None,
        "figures": [drawn(chart, SMALL) for chart in known],
        "other_figures": [drawn(chart, SMALL) for chart in others],
        "absent": absent,
        "marks": marks,
    }
