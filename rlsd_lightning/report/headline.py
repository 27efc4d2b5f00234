"""The report's first lines: what was learnt, and the facts beside it."""

from __future__ import annotations

from dataclasses import dataclass

from rlsd_lightning.report.held_out import held_out_series
from rlsd_lightning.report.load import Run
from rlsd_lightning.report.metrics_csv import Points
from rlsd_lightning.report.scale import duration, show


@dataclass(frozen=True, slots=True)
class Fact:
    """One tile: a name, a value, and the value it started from."""

    name: str
    value: str
    before: str = ""
    note: str = ""


def headline(run: Run) -> str:
    """Say in one sentence what was learnt."""
    measured = [series for series in held_out_series(run, "accuracy") if len(series.points) > 1]
    if not measured:
        return (
            f"{run.last_step:,} steps of training" if run.last_step else "Nothing was recorded yet"
        )
    before, after = measured[0].points[0][1], measured[0].points[-1][1]
    name = "Held-out accuracy" if len(measured) == 1 else f"Accuracy ({measured[0].label})"
    if before == after:
        return f"{name} stayed at {show(after, 'percent')}"
    verb = "rose" if after > before else "fell"
    return f"{name} {verb} from {show(before, 'percent')} to {show(after, 'percent')}"


def facts(run: Run) -> list[Fact]:
    """The tiles under the headline, as far as the run says."""
    return [*_held_out(run), *_reward(run), *_work(run)]


def _held_out(run: Run) -> list[Fact]:
    tiles = []
    for quantity in ("accuracy", "leakage"):
        for series in held_out_series(run, quantity):
            values = [show(y, "percent") for _, y in series.points]
            name = series.label.replace("held out", f"held-out {quantity}")
            tiles.append(Fact(name, values[-1], values[0] if len(values) > 1 else ""))
    return tiles


def _reward(run: Run) -> list[Fact]:
    points = run.metrics.get("rollout/reward_mean")
    if not points:
        return []
    first, last = _ends(points)
    return [
        Fact(
            "reward in training", f"{last:.2f}", f"{first:.2f}", "first and last tenth of the steps"
        )
    ]


def _ends(points: Points) -> tuple[float, float]:
    """Mean value of the first and of the last tenth of the steps."""
    values = [value for _, value in sorted(points.items())]
    tenth = max(1, len(values) // 10)
    return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def _work(run: Run) -> list[Fact]:
    summary = run.summary
    planned = summary.get("max_steps") or 0
    notes = [f"of {planned:,} planned"] if run.last_step < planned else []
    notes += [f"in {duration(summary['seconds'])}"] if summary.get("seconds") else []
    tiles = [Fact("optimizer steps", f"{run.last_step:,}", note=", ".join(notes))]
    if summary.get("problems_per_step") and summary.get("group_size"):
        problems, group = summary["problems_per_step"], summary["group_size"]
        tiles.append(
            Fact(
                "completions per step",
                f"{problems * group:,}",
                note=f"{problems} problems, {group} each",
            )
        )
    if summary.get("num_train_problems"):
        skipped = len(summary.get("skipped_rows") or ())
        note = f"{skipped:,} rows skipped" if skipped else ""
        tiles.append(Fact("training problems", f"{summary['num_train_problems']:,}", note=note))
    if summary.get("resumed_at_steps"):
        steps = summary["resumed_at_steps"]
        tiles.append(
            Fact("resumed", "once" if len(steps) == 1 else f"{len(steps)} times", note=_at(steps))
        )
    return tiles


def _at(steps: list[int]) -> str:
    """Name up to five steps."""
    named = ", ".join(f"{step:,}" for step in steps[:5])
    return f"at step {named}" + (", ..." if len(steps) > 5 else "")
