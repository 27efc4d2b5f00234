"""What repeated runs say: means over seeds with intervals, steps to an accuracy, ratios of steps, peaks and falls.

Curves are lists over seeds of lists over evaluations. A seed that never reaches an accuracy is censored at its last
step: it bounds a mean from below, but is never averaged as if it had got there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

Curve = Sequence[float]
"""One value per evaluation. [N]"""
Curves = Sequence[Curve]
"""One curve per seed. [S, N]"""

FRACTIONS = (0.25, 0.5, 0.75)
"""Where the thresholds lie on the way from the warm start to the best mean accuracy of GRPO."""
CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
RESAMPLING_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    half_width: float | None
    """Half of the 95 % interval; None for a single seed, which says nothing about others."""
    num_seeds: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half_width is None else self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """A mean with its 95 % interval by Student's t.

    mean +- t(0.975, n - 1) * s / sqrt(n), s the standard deviation with n - 1 in the denominator

    Args:
        values: one per seed. [S]

    Raises:
        ValueError: there is no value.

    Example:
        >>> found = estimate([1.0, 2.0, 3.0])
        >>> found.mean, round(found.half_width, 3)
        (2.0, 2.484)
    """
    if not values:
        raise ValueError(
            "estimate: values is empty, needs one value per seed. Collect at least one run."
        )
    if len(values) == 1:
        return Estimate(mean=values[0], half_width=None, num_seeds=1)
    quantile = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    half_width = quantile * stdev(values) / math.sqrt(len(values))
    return Estimate(mean=fmean(values), half_width=half_width, num_seeds=len(values))


def mean_curve(curves: Curves) -> list[float]:
    """The mean over seeds at each evaluation.

    Example:
        >>> mean_curve([[0.0, 1.0], [1.0, 2.0]])
        [0.5, 1.5]
    """
    return [fmean(values) for values in zip(*curves, strict=True)]


def first_crossing(steps: Sequence[int], curve: Curve, level: float) -> float | None:
    """The step at which a curve first reaches a level, by linear interpolation between evaluations.

    Args:
        steps: when was evaluated, ascending. [N]
        curve: what was found. [N]
        level: what has to be reached.

    Returns:
        The step; None if the level is never reached.

    Example:
        >>> first_crossing([0, 10, 20], [0.2, 0.4, 0.8], level=0.5)
        12.5
    """
    if curve[0] >= level:
        return float(steps[0])
    for index in range(1, len(steps)):
        before, after = curve[index - 1], curve[index]
        if after >= level:
            share = (level - before) / (after - before)
            return steps[index - 1] + share * (steps[index] - steps[index - 1])
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossings:
    """When each seed first reached a level."""

    steps: tuple[float | None, ...]
    """None for a seed that never did. [S]"""
    last_step: int
    """Where the seeds that never did were given up."""

    @property
    def num_reached(self) -> int:
        """How many seeds got there."""
        return sum(step is not None for step in self.steps)

    @property
    def all_reached(self) -> bool:
        """Whether every seed got there."""
        return self.num_reached == len(self.steps)

    @property
    def bound(self) -> float:
        """The mean step; if a seed never got there, a step that the mean lies above."""
        return fmean(self.last_step if step is None else step for step in self.steps)


def crossings(steps: Sequence[int], curves: Curves, level: float) -> Crossings:
    """The first crossing of each seed.

    Example:
        >>> crossings([0, 10], [[0.0, 1.0], [0.0, 0.4]], level=0.5).steps
        (5.0, None)
    """
    found = tuple(first_crossing(steps, curve, level) for curve in curves)
    return Crossings(steps=found, last_step=steps[-1])


def thresholds(curves: Curves, fractions: Sequence[float] = FRACTIONS) -> list[float]:
    """Accuracies that lie between the warm start and the best mean accuracy of the curves.

    start + f * (best - start), start the mean over seeds of the first evaluation, best the highest mean over seeds of
    any evaluation

    Args:
        curves: of GRPO; all methods are held against the same thresholds. [S, N]
        fractions: f.

    Example:
        >>> thresholds([[0.2, 0.6, 0.5], [0.2, 0.8, 0.5]])
        [0.325, 0.45, 0.575]
    """
    means = mean_curve(curves)
    return [round(means[0] + fraction * (max(means) - means[0]), 10) for fraction in fractions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotient:
    """A ratio of two numbers that were measured over seeds."""

    value: float
    relation: str
    """What the true ratio is to the value: "=", or ">" or "<" where a side is censored."""
    interval: tuple[float, float] | None
    """95 % by bootstrap; None where a side has a single seed or is censored."""


def step_ratio(baseline: Crossings, method: Crossings) -> Quotient | None:
    """How many times fewer steps a method takes than a baseline: a ratio of mean steps.

    Args:
        baseline: the steps of GRPO.
        method: the steps of the other.

    Returns:
        Baseline / method; a bound where one of them is censored; None where both are, or where the method needs no
        step.

    Example:
        >>> one, two = Crossings(steps=(20.0,), last_step=50), Crossings(steps=(10.0,), last_step=50)
        >>> step_ratio(one, two).value
        2.0
    """
    if method.bound == 0 or not (baseline.all_reached or method.all_reached):
        return None
    value = baseline.bound / method.bound
    if not baseline.all_reached:
        return Quotient(value=value, relation=">", interval=None)
    if not method.all_reached:
        return Quotient(value=value, relation="<", interval=None)
    interval = bootstrap(baseline.steps, method.steps, _ratio_of_means)
    return Quotient(value=value, relation="=", interval=interval)


def _ratio_of_means(first: Sequence[float], second: Sequence[float]) -> float:
    below = fmean(second)
    return fmean(first) / below if below else math.inf


def bootstrap(
    first: Sequence, second: Sequence, statistic: Callable[[Sequence, Sequence], float]
) -> tuple[float, float] | None:
    """A 95 % interval of a statistic of two sets of seeds: percentiles over resamples with replacement.

    The two sets are resampled independently of each other; the draws are the same in every call.

    Args:
        first: one item per seed. [S]
        second: one item per seed. [S']
        statistic: of two resampled sets; may be infinite.

    Returns:
        The interval's ends; None where a set has a single seed.

    Example:
        >>> bootstrap([2.0, 2.0], [1.0, 1.0], lambda a, b: sum(a) / sum(b))
        (2.0, 2.0)
    """
    if min(len(first), len(second)) < 2:
        return None
    draw = random.Random(RESAMPLING_SEED)
    found = sorted(
        statistic(draw.choices(first, k=len(first)), draw.choices(second, k=len(second)))
        for _ in range(NUM_RESAMPLES)
    )
    outside = round((1 - CONFIDENCE) / 2 * NUM_RESAMPLES)
    return found[outside], found[-1 - outside]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaking:
    """How soon the mean curve of a method is where that of GRPO ends."""

    level: float
    """GRPO's final accuracy: the mean over seeds of its last evaluation."""
    baseline_step: float
    """When GRPO's mean curve first reached it: its last step or earlier."""
    step: float | None
    """When the method's mean curve does; None if never."""
    share: float
    """step / baseline_step; infinite if never, or if GRPO is at its end where it began."""
    interval: tuple[float, float] | None
    """Of the share: 95 % by bootstrap, its upper end infinite where resamples never get there."""
    seeds: Crossings
    """The method's steps to the level, seed by seed."""


def overtaking(
    baseline_steps: Sequence[int], baseline: Curves, steps: Sequence[int], curves: Curves
) -> Overtaking:
    """Compare the steps to GRPO's final accuracy.

    GRPO's own steps are those of its first crossing, not its last step: where it has long stopped rising, the last
    step would flatter the method.

    Args:
        baseline_steps: GRPO's evaluations. [N]
        baseline: GRPO's accuracies. [S, N]
        steps: the method's evaluations. [N']
        curves: the method's accuracies. [S', N']

    Example:
        >>> found = overtaking([0, 10, 20], [[0.2, 0.5, 0.8]], [0, 10, 20], [[0.2, 0.8, 0.9]])
        >>> found.baseline_step, found.step, found.share
        (20.0, 10.0, 0.5)
    """

    def share(some_baseline: Curves, some_curves: Curves) -> float:
        means = mean_curve(some_baseline)
        taken = first_crossing(steps, mean_curve(some_curves), means[-1])
        needed = first_crossing(baseline_steps, means, means[-1])
        return taken / needed if taken is not None and needed else math.inf

    level = fmean(curve[-1] for curve in baseline)
    return Overtaking(
        level=level,
        baseline_step=_reached(baseline_steps, baseline, level),
        step=first_crossing(steps, mean_curve(curves), level),
        share=share(baseline, curves),
        interval=bootstrap(baseline, curves, share),
        seeds=crossings(steps, curves, level),
    )


def _reached(steps: Sequence[int], curves: Curves, level: float) -> float:
    step = first_crossing(steps, mean_curve(curves), level)
    assert step is not None, "a curve reaches its own end"
    return step


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Where a mean curve is highest, and how far it falls until its end."""

    step: int
    """The first step of the highest mean."""
    height: Estimate
    """The accuracy there, over seeds."""
    fall: Estimate
    """The accuracy there minus that at the end, over seeds."""


def peak(steps: Sequence[int], curves: Curves) -> Peak:
    """Find the peak of the mean curve and the fall after it.

    Example:
        >>> found = peak([0, 10, 20], [[0.2, 0.6, 0.3], [0.2, 0.6, 0.5]])
        >>> found.step, found.height.mean, round(found.fall.mean, 6)
        (10, 0.6, 0.2)
    """
    means = mean_curve(curves)
    at = means.index(max(means))
    return Peak(
        step=steps[at],
        height=estimate([curve[at] for curve in curves]),
        fall=estimate([curve[at] - curve[-1] for curve in curves]),
    )


def rise(curves: Curves) -> Estimate:
    """How much a quantity is higher at the end than at the start, over seeds.

    Example:
        >>> rise([[0.0, 0.5], [0.0, 0.7]]).mean
        0.6
    """
    return estimate([curve[-1] - curve[0] for curve in curves])


def final_difference(curves: Curves, others: Curves) -> tuple[float, tuple[float, float] | None]:
    """How much higher the mean of the last evaluation is than that of others, with a 95 % bootstrap interval.

    Example:
        >>> final_difference([[0.2, 0.75]], [[0.2, 0.5]])
        (0.25, None)
    """

    def difference(first: Sequence[float], second: Sequence[float]) -> float:
        return fmean(first) - fmean(second)

    ends, other_ends = [curve[-1] for curve in curves], [curve[-1] for curve in others]
    return difference(ends, other_ends), bootstrap(ends, other_ends, difference)
