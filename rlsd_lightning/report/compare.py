"""Lays several runs side by side in one page: python -m rlsd_lightning compare RUN RUN ... [output=compare.html].

What differs between their settings, the same metric of all runs in one chart, and a table of what each reached.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlsd_lightning.records import write_atomically
from rlsd_lightning.report.charts import Chart
from rlsd_lightning.report.compared import (
    Compared,
    are_averaged,
    evaluators,
    held_out_charts,
    known_charts,
    other_charts,
    tones,
)
from rlsd_lightning.report.figures import OPENING, SMALL, figure, span
from rlsd_lightning.report.find_runs import find_runs
from rlsd_lightning.report.load import Run, load_run
from rlsd_lightning.report.results import results
from rlsd_lightning.report.settings import Difference, differences, read_settings, run_names
from rlsd_lightning.report.template import render

_OUTPUT = "output="


def compare_command(arguments: list[str]) -> Path:
    """Do what the words of the command line ask for.

    Args:
        arguments: folders, which may hold a "=" like those of a sweep do, and at most one output=FILE.

    Returns:
        The page's path.

    Raises:
        ValueError: see write_comparison.
        SystemExit: with the help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rlsd_lightning compare",
        description="Lay several runs side by side in one HTML page.",
        usage="%(prog)s RUN RUN ... [output=compare.html]",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN",
        help="a run's folder, or a folder of runs: an experiment's, or a sweep's",
    )
    words = parser.parse_args(arguments).words
    outputs = [word.removeprefix(_OUTPUT) for word in words if word.startswith(_OUTPUT)]
    folders = [Path(word) for word in words if not word.startswith(_OUTPUT)]
    return write_comparison(folders, Path(outputs[-1] if outputs else "compare.html"))


def write_comparison(folders: Sequence[Path], output: Path) -> Path:
    """Build the page about several runs.

    Args:
        folders: of runs, or folders that hold runs.
        output: the page; its folder is made if it is missing.

    Returns:
        The page's absolute path.

    Raises:
        ValueError: a folder holds no run, there are fewer than two runs with metrics, or none of their metrics is
            common to two of them.
    """
    loaded = [load_run(path, with_rollouts=False) for path in find_runs(folders)]
    runs = [run for run in loaded if run.metrics]
    _check(loaded, runs)
    found = differences([read_settings(run.config) for run in runs])
    output = output.absolute()
    page = _page(_named(runs, found), found, [run for run in loaded if not run.metrics])
    write_atomically(output, page.encode())
    return output


def _check(loaded: Sequence[Run], runs: Sequence[Run]) -> None:
    if len(runs) < 2:
        silent = "".join(f" {run.path} has no metrics yet." for run in loaded if not run.metrics)
        raise ValueError(
            f"compare: got {len(runs)} {'run' if len(runs) == 1 else 'runs'} with metrics, needs 2 or more.{silent} "
            "Name more runs, or a folder that holds several."
        )
    names = [name for run in runs for name in run.metrics]
    if len(set(names)) == len(names):
        some = "; ".join(f"{run.path} has {', '.join(sorted(run.metrics)[:3])}" for run in runs[:2])
        raise ValueError(
            f"compare: no metric is common to two of the {len(runs)} runs ({some}), needs one at least. "
            "Name runs that were trained by the same command."
        )


def _named(runs: Sequence[Run], found: Sequence[Difference]) -> list[Compared]:
    """Name runs by their settings, those of equal settings by their folders too."""
    names, groups = run_names(found, len(runs))
    tone = tones(groups)
    full = [
        f"{name} ({run.name})" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]
    full = [
        f"{name} ({run.path})" if full.count(name) > 1 else name
        for name, run in zip(full, runs, strict=True)
    ]
    alone = len(set(groups)) == 1
    own = tones(full)
    return [
        Compared(run, name, name, own[name]) if alone else Compared(run, name, group, tone[group])
        for run, name, group in zip(runs, full, groups, strict=True)
    ]


def _page(runs: Sequence[Compared], found: Sequence[Difference], silent: Sequence[Run]) -> str:
    measured = evaluators(runs, "accuracy")
    return render(
        "compare.html.j2",
        styles=["style.css", "compare.css"],
        scripts=["charts.js"],
        runs=runs,
        legend=_legend(runs),
        averaged=are_averaged(runs),
        **_settings(runs, found),
        silent=[str(run.path) for run in silent],
        tables=[results(runs, evaluator) for evaluator in measured or [""]],
        **_figures(runs),
    )


def _settings(runs: Sequence[Compared], found: Sequence[Difference]) -> dict[str, Any]:
    """Choose the columns of the table of settings: one per run, or one per group without the seed."""
    columns = [(index, one.tone, one.name) for index, one in enumerate(runs)]
    if are_averaged(runs):
        groups = [one.group for one in runs]
        columns = [(groups.index(one.group), one.tone, one.group) for one in _firsts(runs)]
        found = [one for one in found if one.key != "seed"]
    return {"setting_columns": columns, "differences": found}


def _firsts(runs: Sequence[Compared]) -> list[Compared]:
    """The first run of each group."""
    firsts: dict[str, Compared] = {}
    for one in runs:
        firsts.setdefault(one.group, one)
    return list(firsts.values())


def _legend(runs: Sequence[Compared]) -> list[tuple[str, str]]:
    """List (tone, name) of every curve with a name."""
    if are_averaged(runs):
        return [(one.tone, one.group) for one in _firsts(runs)]
    return [(one.tone, one.name) for one in runs]


def _figures(runs: Sequence[Compared]) -> dict[str, Any]:
    opening = held_out_charts(runs, "accuracy", "Accuracy")
    known = [*held_out_charts(runs, "leakage", "Leakage"), *known_charts(runs)]
    others = other_charts(runs)
    steps = span([*opening, *known, *others], max(one.run.last_step for one in runs))

    def drawn(charts: Sequence[Chart], sizes: Any) -> list[Any]:
        return [figure(chart, sizes, steps) for chart in charts]

    return {
        "opening": drawn(opening, OPENING),
        "figures": drawn(known, SMALL),
        "other_figures": drawn(others, SMALL),
    }
