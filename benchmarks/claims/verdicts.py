"""What the numbers say about each claim, in sentences that the numbers choose.

An aim is met or missed, and by how much; what was not run is said to be not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.claims.arms import Arm, find
from benchmarks.claims.statistics import (
    Estimate,
    Overtaking,
    crossings,
    estimate,
    final_difference,
    mean_curve,
    overtaking,
    peak,
    rise,
    thresholds,
)
from benchmarks.claims.tables import (
    best_learning_rates,
    final,
    method_of,
    percent,
    percent_estimate,
    share_of_steps,
    steps_taken,
)

AIM_SHARE = 0.5
"""Of GRPO's steps, at most, to GRPO's final accuracy."""
EARLY_SHARE = 0.5
"""Of the training, at most, before an early peak."""
LEAKAGE_MARGIN = 0.01
"""A mean leakage this far above the base rate still counts as staying there."""
SELF_DISTILLED = ("opsd", "opsd_distribution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found of a claim on one task."""

    met: bool
    brief: str
    """The task and its number, in a few words."""
    sentences: str


def headline(verdicts: Sequence[Verdict]) -> str:
    """Sum up what was found of a claim.

    Example:
        >>> headline([Verdict(met=True, brief="a 40 %", sentences=""), Verdict(met=False, brief="b 70 %", sentences="")])
        'Met in 1 of 2: a 40 %; b 70 %'
        >>> headline([])
        'Not measured: these runs are not among those collected'
    """
    if not verdicts:
        return "Not measured: these runs are not among those collected"
    num_met = sum(verdict.met for verdict in verdicts)
    briefs = "; ".join(verdict.brief for verdict in verdicts)
    if not num_met:
        return f"Missed, {len(verdicts)} of {len(verdicts)}: {briefs}"
    return f"Met in {num_met} of {len(verdicts)}: {briefs}"


def overtaking_verdicts(tasks: Mapping[str, Sequence[Arm]], label: str) -> list[Verdict]:
    """Whether a method needs at most half of GRPO's steps to GRPO's final accuracy, task by task.

    Args:
        tasks: the arms of the long tasks.
        label: the method.
    """
    pairs = {task: (find(arms, "grpo"), find(arms, label)) for task, arms in tasks.items()}
    return [
        _overtaking_verdict(task, grpo, arm)
        for task, (grpo, arm) in pairs.items()
        if grpo is not None and arm is not None
    ]


def _overtaking_verdict(task: str, grpo: Arm, arm: Arm) -> Verdict:
    found = overtaking(grpo.steps, grpo.accuracy, arm.steps, arm.accuracy)
    opening = (
        f"`{task}`: GRPO ends at {percent(found.level)} % after {grpo.steps[-1]} steps, which its mean curve first "
        f"reaches at step {found.baseline_step:.1f}."
    )
    if found.baseline_step == 0:
        words = "That is where it began: GRPO did not learn, and there is nothing to overtake."
        return Verdict(
            met=False, brief=f"`{task}` GRPO did not learn", sentences=f"{opening} {words}"
        )
    return Verdict(
        met=found.share <= AIM_SHARE,
        brief=f"`{task}` {share_of_steps(found)}",
        sentences=f"{opening} {_arrival(arm, found)} {_seed_words(found)}",
    )


def _arrival(arm: Arm, found: Overtaking) -> str:
    if found.step is None:
        end = percent_estimate(final(arm.accuracy))
        return (
            f"`{arm.label}` does not get there in {arm.steps[-1]} steps (it ends at {end} %): the aim of at "
            f"most {percent(AIM_SHARE)} % of GRPO's steps is **missed**."
        )
    if not found.share:
        return f"`{arm.label}` is there before its first step: the warm start is no worse."
    return (
        f"`{arm.label}` is there at step {found.step:.1f}: {share_of_steps(found)} of GRPO's steps, a ratio of "
        f"{1 / found.share:.2f}. The aim of at most {percent(AIM_SHARE)} % is "
        f"{met_or_missed(found.share, found.interval)}."
    )


def met_or_missed(share: float, interval: tuple[float, float] | None) -> str:
    """Whether a share is within the aim, how far off, and whether its interval agrees.

    Example:
        >>> met_or_missed(0.45, (0.4, 0.6))
        '**met**, though the interval reaches beyond it'
        >>> met_or_missed(0.7, (0.6, 0.8))
        '**missed** by 20.0 points'
    """
    met = share <= AIM_SHARE
    words = "**met**" if met else f"**missed** by {percent(share - AIM_SHARE)} points"
    if interval is None:
        return f"{words} (no interval: a single seed)"
    if met and interval[1] > AIM_SHARE:
        return f"{words}, though the interval reaches beyond it"
    if not met and interval[0] <= AIM_SHARE:
        return f"{words}, though the interval reaches it"
    return words


def _seed_words(found: Overtaking) -> str:
    seeds = found.seeds
    if seeds.all_reached:
        return f"Averaged over its seeds one by one it takes {seeds.bound:.1f} steps."
    return f"Seed by seed, {seeds.num_reached} of {len(seeds.steps)} get there within {seeds.last_step} steps."


def collapse_verdicts(tasks: Mapping[str, Sequence[Arm]]) -> list[Verdict]:
    """Whether OPSD peaks early and then falls while its leakage rises, task by task and form by form."""
    return [
        _collapse_verdict(task, arm)
        for task, arms in tasks.items()
        for arm in arms
        if arm.label in SELF_DISTILLED
    ]


def _collapse_verdict(task: str, arm: Arm) -> Verdict:
    top, leak = peak(arm.steps, arm.accuracy), rise(arm.leakage)
    last = arm.steps[-1]
    early = 0 < top.step <= EARLY_SHARE * last
    falls, leaks = above_zero(top.fall), above_zero(leak)
    when = "never rises above its warm start"
    if top.step:
        half = "first" if early else "second"
        when = f"is highest at step {top.step} of {last}, in the {half} half of the training"
    fall = f"falls by {percent_estimate(top.fall)} points" if falls else _not_beyond(top.fall)
    leakage = (
        f"rises by {percent_estimate(leak)} points"
        if leaks
        else f"does not rise beyond its interval ({percent_estimate(leak)} points)"
    )
    met = early and falls and leaks
    end = percent(final(arm.accuracy).mean)
    return Verdict(
        met=met,
        brief=f"`{task}` `{arm.label}` {percent(top.height.mean)} % at step {top.step}, {end} % at {last}",
        sentences=(
            f"`{task}`, `{arm.label}`: mean accuracy {when}, at {percent_estimate(top.height)} %, and then {fall}, to "
            f"{percent_estimate(final(arm.accuracy))} %. Its leakage {leakage}, to "
            f"{percent_estimate(final(arm.leakage))} %. {'**Met**' if met else '**Missed**'}."
        ),
    )


def _not_beyond(fall: Estimate) -> str:
    return f"does not fall beyond its interval ({percent_estimate(fall)} points)"


def above_zero(found: Estimate) -> bool:
    """Whether a mean lies above zero with its whole interval; of a single seed, whether it does at all.

    Example:
        >>> above_zero(Estimate(mean=0.1, half_width=0.2, num_seeds=3))
        False
    """
    return (found.mean if found.low is None else found.low) > 0


def base_rate_verdicts(tasks: Mapping[str, Sequence[Arm]]) -> list[Verdict]:
    """Whether RLSD's leakage stays at the base rate, task by task.

    The base rate is the warm start's, or GRPO's at the same step where that is higher: GRPO never sees a reference.
    """
    pairs = {task: (find(arms, "grpo"), find(arms, "rlsd")) for task, arms in tasks.items()}
    return [
        _base_rate_verdict(task, grpo, rlsd)
        for task, (grpo, rlsd) in pairs.items()
        if grpo is not None and rlsd is not None
    ]


def _base_rate_verdict(task: str, grpo: Arm, rlsd: Arm) -> Verdict:
    means = mean_curve(rlsd.leakage)
    theirs = dict(zip(grpo.steps, mean_curve(grpo.leakage), strict=True))
    excess = max(
        mean - max(means[0], theirs.get(step, 0.0))
        for step, mean in zip(rlsd.steps, means, strict=True)
    )
    highest = max(means)
    at = means.index(highest)
    met = excess <= LEAKAGE_MARGIN
    spread = percent_estimate(estimate([curve[at] for curve in rlsd.leakage]))
    return Verdict(
        met=met,
        brief=f"`{task}` at most {percent(highest)} %, GRPO {percent(max(theirs.values()))} %",
        sentences=(
            f"`{task}`: RLSD's leakage is {percent(means[0])} % at the warm start, its highest mean {spread} % at step "
            f"{rlsd.steps[at]}, and {percent_estimate(final(rlsd.leakage))} % at the end; GRPO's highest mean is "
            f"{percent(max(theirs.values()))} %. It {'stays' if met else 'does **not** stay'} within "
            f"{percent(LEAKAGE_MARGIN)} points of the base rate, above which it is by {percent(excess)} points at most."
        ),
    )


def advance_verdicts(tasks: Mapping[str, Sequence[Arm]]) -> list[Verdict]:
    """Whether rlsd_plus gets the factor of 2, and in fewer steps than plain RLSD, task by task."""
    return [
        _advance_verdict(task, *trio)
        for task, arms in tasks.items()
        if None not in (trio := [find(arms, name) for name in ("grpo", "rlsd", "rlsd_plus")])
    ]


def _advance_verdict(task: str, grpo: Arm, rlsd: Arm, plus: Arm) -> Verdict:
    plain = overtaking(grpo.steps, grpo.accuracy, rlsd.steps, rlsd.accuracy)
    found = overtaking(grpo.steps, grpo.accuracy, plus.steps, plus.accuracy)
    met = found.share <= AIM_SHARE and found.share < plain.share
    return Verdict(
        met=met,
        brief=f"`{task}` {share_of_steps(found)}",
        sentences=(
            f"`{task}`: share of GRPO's steps to GRPO's final accuracy: `rlsd_plus` {share_of_steps(found)}, plain `rlsd` "
            f"{share_of_steps(plain)}. {_ending(plus, rlsd)} {_ending(plus, grpo)} Its leakage ends at "
            f"{percent_estimate(final(plus.leakage))} %, that of `rlsd` at {percent_estimate(final(rlsd.leakage))} %. "
            f"Factor of 2 and fewer steps than `rlsd`: {'**met**' if met else '**missed**'}."
        ),
    )


def _ending(arm: Arm, other: Arm) -> str:
    difference, interval = final_difference(arm.accuracy, other.accuracy)
    words = f"{percent(abs(difference))} points {'above' if difference >= 0 else 'below'}"
    within = ""
    if interval:
        within = f" (difference {percent(interval[0])} to {percent(interval[1])})"
    return f"It ends {words} `{other.label}`{within}."


def learning_rate_notes(tried: Sequence[Arm], used: Sequence[Arm]) -> list[str]:
    """What a reader has to know of the choice of learning rates on one task.

    Args:
        tried: the arms of the search.
        used: the arms that were trained afterwards.
    """
    notes = []
    for method, rate in best_learning_rates(tried).items():
        rates = [arm.lr for arm in tried if method_of(arm) == method]
        if len(rates) > 1 and rate in (min(rates), max(rates)):
            notes.append(
                f"`{method}` is best at {rate:g}, the edge of what was tried: its true best may lie beyond."
            )
        arm = find(used, method)
        if arm is not None and arm.lr != rate:
            notes.append(
                f"`{method}` was trained at {arm.lr:g} and not at its best of {rate:g}: its results are not those of "
                "its best learning rate."
            )
    return notes


def not_won(tasks: Mapping[str, Sequence[Arm]]) -> list[str]:
    """Where RLSD does not win: methods that end higher, and thresholds that GRPO reaches no later.

    Args:
        tasks: the arms of a study by task.
    """
    return [
        sentence
        for task, arms in tasks.items()
        if (rlsd := find(arms, "rlsd")) is not None
        for sentence in (*_ending_higher(task, rlsd, arms), *_not_sooner(task, rlsd, arms))
    ]


def _ending_higher(task: str, rlsd: Arm, arms: Sequence[Arm]) -> list[str]:
    own = final(rlsd.accuracy).mean
    higher = [arm for arm in arms if final(arm.accuracy).mean > own]
    return [f"`{task}`: `{arm.label}`. {_ending(arm, rlsd)}" for arm in higher]


def _not_sooner(task: str, rlsd: Arm, arms: Sequence[Arm]) -> list[str]:
    grpo = find(arms, "grpo")
    if grpo is None:
        return []
    sentences = []
    for level in thresholds(grpo.accuracy):
        needed = crossings(grpo.steps, grpo.accuracy, level)
        taken = crossings(rlsd.steps, rlsd.accuracy, level)
        if needed.num_reached and needed.bound <= taken.bound:
            sentences.append(
                f"`{task}`: to {percent(level)} % `rlsd` takes {steps_taken(taken)} steps, GRPO "
                f"{steps_taken(needed)}."
            )
    return sentences
