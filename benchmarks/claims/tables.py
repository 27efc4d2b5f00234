"""The tables of the page, in Markdown, from the arms of one task or study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from benchmarks.claims.arms import Arm, find, natural
from benchmarks.claims.statistics import (
    Crossings,
    Curves,
    Estimate,
    Overtaking,
    Quotient,
    crossings,
    estimate,
    overtaking,
    peak,
    step_ratio,
    thresholds,
)
from rlsd_lightning.report.settings import ABSENT, Settings, differences

NONE = "-"
NEVER = "never"
_MAX_STEPS = 8
"""Columns of a table by step, at most; results.csv has all evaluations."""
_SIGNALS = {
    "entropy": ("entropy, nats", 3),
    "completion_tokens": ("completion, tokens", 1),
    "clipped_fraction": ("evidence clipped", 3),
    "clip_high_fraction": ("ratio clipped above", 4),
    "lambda": ("lambda", 2),
    "zero_variance_fraction": ("groups without variance", 2),
    "step_s": ("step, s", 2),
}
"""Column -> its title and how many decimals it is written with."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, the first column to the left and the others to the right.

    Example:
        >>> print(markdown_table(["who", "steps"], [["grpo", "60"]]))
        | who | steps |
        |:--|--:|
        | grpo | 60 |
    """
    ruler = "|" + "|".join([":--", *["--:"] * (len(header) - 1)]) + "|"
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], ruler, *lines[1:]])


def percent(value: float) -> str:
    """A share in percent, without its sign.

    Example:
        >>> percent(0.7125)
        '71.2'
    """
    return f"{100 * value:.1f}"


def percent_estimate(found: Estimate) -> str:
    """A mean share with its interval, in percent; a single seed has no interval.

    Example:
        >>> percent_estimate(Estimate(mean=0.5, half_width=0.04, num_seeds=5))
        '50.0 +- 4.0'
    """
    width = "" if found.half_width is None else f" +- {percent(found.half_width)}"
    return percent(found.mean) + width


def quotient(found: Quotient | None) -> str:
    """A ratio with its interval, or the bound that is known of it.

    Example:
        >>> quotient(Quotient(value=1.5, relation="=", interval=(1.2, 1.8)))
        '1.50 (1.20 to 1.80)'
        >>> quotient(Quotient(value=1.5, relation=">", interval=None)), quotient(None)
        ('> 1.50', '-')
    """
    if found is None:
        return NONE
    relation = "" if found.relation == "=" else f"{found.relation} "
    interval = f" ({found.interval[0]:.2f} to {found.interval[1]:.2f})" if found.interval else ""
    return f"{relation}{found.value:.2f}{interval}"


def steps_taken(found: Crossings) -> str:
    """The mean step with its interval; where seeds never got there, how many did and by when.

    Example:
        >>> steps_taken(Crossings(steps=(20.0, None), last_step=60))
        '1 of 2 by 60'
        >>> steps_taken(Crossings(steps=(None, None), last_step=60))
        '> 60'
        >>> steps_taken(Crossings(steps=(20.0,), last_step=60))
        '20.0'
    """
    if not found.num_reached:
        return f"> {found.last_step}"
    if not found.all_reached:
        return f"{found.num_reached} of {len(found.steps)} by {found.last_step}"
    mean = estimate(found.steps)
    return f"{mean.mean:.1f}" + ("" if mean.half_width is None else f" +- {mean.half_width:.1f}")


def by_step(arms: Sequence[Arm], curves_of: Callable[[Arm], Curves]) -> str:
    """A quantity in percent, one line per arm and one column per evaluation that is shown."""
    steps = shown_steps(sorted({step for arm in arms for step in arm.steps}))
    rows = []
    for arm in arms:
        columns = zip(*curves_of(arm), strict=True)
        cells = {
            step: percent_estimate(estimate(values))
            for step, values in zip(arm.steps, columns, strict=True)
        }
        rows.append([_name(arm), *(cells.get(step, NONE) for step in steps)])
    return markdown_table(["step", *map(str, steps)], rows)


def shown_steps(steps: Sequence[int]) -> list[int]:
    """Evaluations at even distances, the first and the last among them, few enough for a table.

    Example:
        >>> shown_steps(range(0, 65, 5))
        [0, 10, 20, 30, 40, 50, 60]
        >>> shown_steps([0, 10, 20])
        [0, 10, 20]
    """
    stride = math.ceil((len(steps) - 1) / (_MAX_STEPS - 1))
    return sorted({*steps[::stride], steps[-1]})


def accuracy_by_step(arms: Sequence[Arm]) -> str:
    """Held-out accuracy, in percent."""
    return by_step(arms, lambda arm: arm.accuracy)


def leakage_by_step(arms: Sequence[Arm]) -> str:
    """Held-out leakage, in percent."""
    return by_step(arms, lambda arm: arm.leakage)


def steps_to_thresholds(arms: Sequence[Arm]) -> str:
    """Mean steps to each threshold of GRPO's, and how many times fewer than GRPO's they are."""
    grpo = find(arms, "grpo")
    if grpo is None:
        return "There are no runs of `grpo`, from which the thresholds would be taken."
    levels = thresholds(grpo.accuracy)
    header = ["steps to", *(f"{percent(level)} %" for level in levels)]
    header += [f"GRPO / method, {percent(level)} %" for level in levels]
    rows = []
    for arm in arms:
        taken = [crossings(arm.steps, arm.accuracy, level) for level in levels]
        needed = [crossings(grpo.steps, grpo.accuracy, level) for level in levels]
        ratios = [
            NONE if arm is grpo else quotient(step_ratio(one, other))
            for one, other in zip(needed, taken, strict=True)
        ]
        rows.append([_name(arm), *map(steps_taken, taken), *ratios])
    return markdown_table(header, rows)


def steps_to_final(arms: Sequence[Arm]) -> str:
    """When each method is where GRPO ends, on the mean curve and seed by seed."""
    grpo = find(arms, "grpo")
    if grpo is None:
        return "There are no runs of `grpo`, whose final accuracy would be the mark."
    header = ["method", "learning rate", "mean curve gets there at step", "share of GRPO's steps"]
    rows = []
    for arm in arms:
        found = overtaking(grpo.steps, grpo.accuracy, arm.steps, arm.accuracy)
        step = f"> {arm.steps[-1]}" if found.step is None else f"{found.step:.1f}"
        each = ", ".join(
            f"> {arm.steps[-1]}" if one is None else f"{one:.0f}" for one in found.seeds.steps
        )
        share = NONE if arm is grpo else share_of_steps(found)
        rows.append([_name(arm), f"{arm.lr:g}", step, share, each])
    return markdown_table([*header, "seed by seed"], rows)


def share_of_steps(found: Overtaking) -> str:
    """The share of GRPO's steps that a method takes, with its interval."""
    share = NEVER if math.isinf(found.share) else f"{percent(found.share)} %"
    return share + ("" if found.interval is None else f" {interval_percent(found.interval)}")


def interval_percent(interval: tuple[float, float]) -> str:
    """The interval of a share, in percent; an infinite end is one that was never reached.

    Example:
        >>> interval_percent((0.5, 0.8)), interval_percent((0.5, float("inf")))
        ('(50.0 to 80.0)', '(50.0 to never)')
    """
    low, high = (NEVER if math.isinf(end) else percent(end) for end in interval)
    return f"({low} to {high})"


def ends(arms: Sequence[Arm]) -> str:
    """Final and best accuracy, the fall between them, and leakage at both ends."""
    header = ["method", "learning rate", "seeds", "final accuracy", "best mean accuracy"]
    header += ["at step", "fall after the best", "leakage at the start", "leakage at the end"]
    rows = []
    for arm in arms:
        top = peak(arm.steps, arm.accuracy)
        rows.append(
            [
                _name(arm),
                f"{arm.lr:g}",
                str(len(arm.seeds)),
                percent_estimate(final(arm.accuracy)),
                percent_estimate(top.height),
                str(top.step),
                percent_estimate(top.fall),
                percent_estimate(first(arm.leakage)),
                percent_estimate(final(arm.leakage)),
            ]
        )
    return markdown_table(header, rows)


def first(curves: Curves) -> Estimate:
    """The mean of the first evaluation."""
    return estimate([curve[0] for curve in curves])


def final(curves: Curves) -> Estimate:
    """The mean of the last evaluation."""
    return estimate([curve[-1] for curve in curves])


def training_signals(arms: Sequence[Arm]) -> str:
    """What training looked like: means over the steps before the first and before the last evaluation."""
    rows = [
        [_name(arm), *(_span(arm.training[name], places) for name, (_, places) in _SIGNALS.items())]
        for arm in arms
    ]
    return markdown_table(["method", *(title for title, _ in _SIGNALS.values())], rows)


def _span(curves: Sequence[Sequence[float | None]], places: int) -> str:
    starts = [curve[1] for curve in curves if curve[1] is not None]
    ends = [curve[-1] for curve in curves if curve[-1] is not None]
    if not starts or not ends:
        return NONE
    return f"{fmean(starts):.{places}f} -> {fmean(ends):.{places}f}"


def learning_rates(arms: Sequence[Arm]) -> str:
    """Final accuracy by learning rate, the best of each method in bold."""
    rates = sorted({arm.lr for arm in arms})
    chosen = best_learning_rates(arms)
    rows = []
    for method in sorted(chosen, key=natural):
        own = {arm.lr: arm for arm in arms if method_of(arm) == method}
        cells = [_rate_cell(own.get(rate), chosen[method]) for rate in rates]
        seeds = ", ".join(map(str, sorted({seed for arm in own.values() for seed in arm.seeds})))
        rows.append([f"`{method}`", seeds, *cells])
    return markdown_table(["method", "tuning seeds", *(f"{rate:g}" for rate in rates)], rows)


def _rate_cell(arm: Arm | None, chosen: float) -> str:
    if arm is None:
        return NONE
    words = percent_estimate(final(arm.accuracy))
    return f"**{words}**" if arm.lr == chosen else words


def best_learning_rates(arms: Sequence[Arm]) -> dict[str, float]:
    """The learning rate of the highest mean final accuracy, by method; of equals the lowest."""
    means: dict[str, dict[float, float]] = {}
    for arm in arms:
        means.setdefault(method_of(arm), {})[arm.lr] = final(arm.accuracy).mean
    return {
        method: max(sorted(by_rate), key=by_rate.__getitem__) for method, by_rate in means.items()
    }


def method_of(arm: Arm) -> str:
    """The method of a label such as grpo@2e-4."""
    return arm.label.partition("@")[0]


def ablations(
    arms: Sequence[Arm], references: Sequence[Arm], settings: Mapping[str, Settings]
) -> str:
    """Variants of RLSD beside what they vary.

    Args:
        arms: the variants, of one task.
        references: GRPO and RLSD on the same task.
        settings: of each arm, by STUDY/TASK/LABEL, without those that all share.
    """
    grpo, rlsd = find(references, "grpo"), find(references, "rlsd")
    if grpo is None or rlsd is None:
        return "There are no runs of `grpo` and `rlsd` on this task, to which variants are held."
    level = thresholds(grpo.accuracy)[1]
    needed = crossings(grpo.steps, grpo.accuracy, level)
    rows = []
    for arm in (grpo, rlsd, *arms):
        taken = crossings(arm.steps, arm.accuracy, level)
        rows.append(
            [
                _name(arm),
                changes(settings[key_of(rlsd)], settings[key_of(arm)]),
                str(len(arm.seeds)),
                percent_estimate(estimate([curve[len(curve) // 2] for curve in arm.accuracy])),
                percent_estimate(final(arm.accuracy)),
                steps_taken(taken),
                NONE if arm is grpo else quotient(step_ratio(needed, taken)),
                percent_estimate(final(arm.leakage)),
            ]
        )
    header = ["variant", "differs from `rlsd` in", "seeds", "accuracy half-way", "final accuracy"]
    header += [f"steps to {percent(level)} %", "GRPO / variant", "leakage at the end"]
    return markdown_table(header, rows)


def key_of(arm: Arm) -> str:
    """The name of an arm in about.json."""
    return f"{arm.study}/{arm.task}/{arm.label}"


def changes(before: Settings, after: Settings) -> str:
    """The settings in which one arm differs from another, as a reader wants them.

    Example:
        >>> changes({"credit.clip_range": 0.2}, {"credit.clip_range": 0.5})
        '`clip_range=0.5`'
        >>> changes({}, {})
        '-'
    """
    words = [
        f"`{one.key.rpartition('.')[2]}={one.words[1]}`"
        for one in differences([before, after])
        if one.values[1] is not ABSENT
    ]
    return ", ".join(words) or NONE


def _name(arm: Arm) -> str:
    return f"`{arm.label}`"
