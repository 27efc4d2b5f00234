"""How sure a benchmark's number is: bootstrap intervals over questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_RESAMPLES = 2_000
SEED = 0
CONFIDENCE = 0.95
_BLOCK = 2**22
"""Drawn indices held at a time."""


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % interval of the mean: percentiles of the means of resamples with replacement (Efron, 1979).

    The unit of resampling is what was drawn independently: a question, or a main question with all its parts. The draws are
    the same in every call, so equal values give equal intervals.

    Args:
        values: one per unit. [N]

    Returns:
        Lower and upper end; NaN without values.

    Example:
        >>> mean_interval([1.0, 1.0, 1.0])
        (1.0, 1.0)
    """
    if not len(values):
        return float("nan"), float("nan")
    units = np.asarray(values, dtype=np.float64)
    draw = np.random.default_rng(SEED)
    per_block = max(1, _BLOCK // len(units))
    sizes = [min(per_block, NUM_RESAMPLES - done) for done in range(0, NUM_RESAMPLES, per_block)]
    means = np.concatenate(
        [units[draw.integers(len(units), size=(size, len(units)))].mean(axis=1) for size in sizes]
    )
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return float(low), float(high)


def with_interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean of units under `name`, and its interval's ends under name_low and name_high.

    Args:
        name: of the number.
        values: one per unit. [N]

    Example:
        >>> with_interval("accuracy", [0.0, 0.0])
        {'accuracy': 0.0, 'accuracy_low': 0.0, 'accuracy_high': 0.0}
    """
    low, high = mean_interval(values)
    return {name: mean(values), f"{name}_low": low, f"{name}_high": high}


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN without values.

    Example:
        >>> mean([True, False])
        0.5
    """
    return sum(values) / len(values) if len(values) else float("nan")
