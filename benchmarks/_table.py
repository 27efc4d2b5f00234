"""Prints what the benchmarks measured."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right.

    Args:
        header: one word per column.
        rows: cells; a row may be shorter than the header.

    Example:
        >>> print(table(["who", "seconds"], [["a", "1.5"], ["none"]]))
        who   seconds
        a         1.5
        none
    """
    lines = [header, *rows]
    widths = [
        max(len(line[column]) for line in lines if column < len(line))
        for column in range(len(header))
    ]
    return "\n".join(_aligned(line, widths).rstrip() for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = line
    cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False)]
    return "  ".join([first.ljust(widths[0]), *cells])
