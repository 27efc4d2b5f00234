"""One picture per task: held-out accuracy and leakage by step, mean over seeds with 95 % bands, as SVG.

The same numbers give the same bytes: no date, and ids from a fixed salt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.claims.arms import Arm
from benchmarks.claims.statistics import Curves, estimate, mean_curve

_STYLE = {
    "svg.hashsalt": "claims",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
}
_COLOURS = {
    "grpo": "#000000",
    "rlsd": "#0072b2",
    "rlsd_plus": "#009e73",
    "opsd": "#d55e00",
    "opsd_distribution": "#e69f00",
    "sdpo": "#cc79a7",
    "grpo_opsd": "#7f7f7f",
}
"""Okabe and Ito's palette, which colour-blind readers can tell apart, and a grey."""
_OTHERS = ("#56b4e9", "#8c6d31", "#5b3a8c")
_LABEL_GAP = 0.055
"""Of the axis' height, at least, between two labels."""


def write_figure(arms: Sequence[Arm], path: Path) -> None:
    """Draw the arms of one task.

    Args:
        arms: one line each.
        path: the SVG.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        accuracy, leakage = figure.subplots(1, 2)
        _panel(accuracy, "Held-out accuracy, %", arms, [arm.accuracy for arm in arms])
        _panel(leakage, "Held-out leakage, %", arms, [arm.leakage for arm in arms])
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(axes: Axes, title: str, arms: Sequence[Arm], curves: Sequence[Curves]) -> None:
    last_step = max(arm.steps[-1] for arm in arms)
    for arm, colour, values in zip(arms, colours(arms), curves, strict=True):
        found = [estimate(column) for column in zip(*values, strict=True)]
        means = [100 * one.mean for one in found]
        axes.plot(arm.steps, means, color=colour, linewidth=1.6)
        if len(arm.seeds) > 1:
            low = [100 * max(one.low, 0.0) for one in found]
            high = [100 * min(one.high, 1.0) for one in found]
            axes.fill_between(arm.steps, low, high, color=colour, alpha=0.14, linewidth=0)
    axes.set_title(title, loc="left")
    axes.set_xlabel("optimizer step")
    axes.set_xlim(0, last_step)
    axes.set_ylim(bottom=0)
    heights = [100 * mean_curve(values)[-1] for values in curves]
    top = axes.get_ylim()[1]
    places = apart([height / top for height in heights], _LABEL_GAP)
    for arm, colour, place in zip(arms, colours(arms), places, strict=True):
        axes.annotate(
            arm.label,
            (1.0, place),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )


def colours(arms: Sequence[Arm]) -> list[str]:
    """One colour per arm, the same for a method in every picture."""
    others = [arm.label for arm in arms if arm.label not in _COLOURS]
    spare = {label: _OTHERS[index % len(_OTHERS)] for index, label in enumerate(others)}
    return [(_COLOURS | spare)[arm.label] for arm in arms]


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move labels until no two are nearer than a gap: up, and where the top is reached, down again.

    Args:
        heights: where the labels would stand, in any order; 1 is the top.
        gap: the least distance of two labels.

    Example:
        >>> [round(place, 2) for place in apart([0.5, 0.0, 0.02], 0.1)]
        [0.5, 0.0, 0.1]
        >>> [round(place, 2) for place in apart([0.95, 0.99, 1.0], 0.1)]
        [0.8, 0.9, 1.0]
    """
    places = list(heights)
    ascending = sorted(range(len(heights)), key=heights.__getitem__)
    floor, ceiling = float("-inf"), 1.0
    for index in ascending:
        places[index] = max(places[index], floor)
        floor = places[index] + gap
    for index in reversed(ascending):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    return places
