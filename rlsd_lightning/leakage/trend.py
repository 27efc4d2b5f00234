"""Where a quantity is heading: its slope over the last steps."""

from __future__ import annotations

from collections.abc import Sequence


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through points.

    sum (x - mean x)(y - mean y) / sum (x - mean x)^2

    Args:
        points: (x, y), at least two different x.

    Example:
        >>> slope([(1, 10.0), (2, 12.0), (3, 14.0)])
        2.0
    """
    if len({x for x, _ in points}) < 2:
        raise ValueError(
            f"slope: points has {len(points)} points, needs two with different x. Wait for a second step."
        )
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return rise / sum((x - mean_x) ** 2 for x, _ in points)
