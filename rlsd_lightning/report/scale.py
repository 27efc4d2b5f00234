"""Numbers for the eye: ticks, thinning, smoothing and formats of the report's charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose round numbers that cover a range, with about `count` intervals or fewer between them.

    Values that differ by rounding errors only count as one value.

    Example:
        >>> nice_ticks(0.0, 0.87)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> nice_ticks(0, 80)
        [0.0, 20.0, 40.0, 60.0, 80.0]
        >>> nice_ticks(1.0, 1.0000000000000002)
        [1.0, 1.2]
    """
    size = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * size else size or 1.0
    rough = span / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(nice for nice in (1, 2, 5, 10) if nice * magnitude >= 0.9 * rough) * magnitude
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = max(12, 3 - math.floor(math.log10(step)))
    return [round(index * step, decimals) for index in range(first, max(last, first + 1) + 1)]


def thin(points: Sequence[Point], limit: int = 400) -> list[Point]:
    """Average neighbours until at most `limit` points are left; values that are not finite do not count.

    Example:
        >>> thin([(1, 1.0), (2, 3.0), (3, 5.0), (4, 7.0)], limit=2)
        [(1.5, 2.0), (3.5, 6.0)]
    """
    size = math.ceil(len(points) / limit) or 1
    if size == 1:
        return list(points)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean([x for x, _ in part]), _finite_mean([y for _, y in part])) for part in bins]


def smooth(points: Sequence[Point], window: int) -> list[Point]:
    """Replace each value by the mean of its neighbourhood, which is narrower at the ends.

    Example:
        >>> smooth([(1, 0.0), (2, 3.0), (3, 0.0)], window=3)
        [(1, 1.5), (2, 1.0), (3, 1.5)]
    """
    half = window // 2
    values = [y for _, y in points]
    return [(x, _mean(values[max(0, i - half) : i + half + 1])) for i, (x, _) in enumerate(points)]


def show(value: float, kind: str) -> str:
    """Write a value the way its kind is read: percent, count, seconds, factor or number.

    Example:
        >>> show(0.0314, "percent"), show(1234.5, "count"), show(0.0314, "seconds"), show(1.0, "factor")
        ('3.1%', '1,234', '0.03 s', '1.000')
    """
    if not math.isfinite(value):
        return "not finite"
    if kind == "percent":
        return f"{value:.1%}" if abs(value) < 0.9995 else f"{value:.0%}"
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "seconds":
        return f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"
    if kind == "factor":
        return f"{value:.3f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def show_tick(value: float, step: float, kind: str) -> str:
    """Write a tick with just the digits that its neighbours need.

    Example:
        >>> show_tick(0.25, 0.25, "percent"), show_tick(1.05, 0.05, "number"), show_tick(1500, 500, "count")
        ('25%', '1.05', '1.5k')
    """
    if value == 0:
        return "0%" if kind == "percent" else "0"
    if kind == "percent":
        return f"{100 * value:.{_decimals(100 * step)}f}%"
    if step >= 250:
        return f"{value / 1000:.{_decimals(step / 1000)}f}k"
    return f"{value:.{_decimals(step)}f}" if step >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def duration(seconds: float) -> str:
    """Say a time span with its two largest units.

    Example:
        >>> duration(42.3), duration(192), duration(7265)
        ('42 s', '3 min 12 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _decimals(step: float) -> int:
    """How many decimals tell multiples of `step` apart."""
    return next((d for d in range(6) if abs(round(step, d) - step) < 1e-9), 6)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _finite_mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return _mean(finite) if finite else math.nan
