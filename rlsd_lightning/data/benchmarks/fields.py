"""Published fields of a row: what must be there, what may be null."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


class FieldError(ValueError):
    """A published field that a row lacks or that holds something else."""


def text_field(row: Row, name: str) -> str:
    """Return a field that every row must have as text; numbers that name something become text.

    Raises:
        FieldError: it is missing, null, blank, or no text.

    Example:
        >>> text_field({"pid": 7}, "pid")
        '7'
    """
    value = present(row, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        there = f"is {value!r}" if name in row else f"is not among {', '.join(row) or 'none'}"
        raise FieldError(f"needs text in the published field {name!r}, which {there}")
    return value


def present(row: Row, name: str) -> Any:
    """Return a field's value; None where it is missing, null or not a number (as parquet writers store null).

    Example:
        >>> present({"precision": float("nan")}, "precision") is None
        True
    """
    value = row.get(name)
    return None if isinstance(value, float) and math.isnan(value) else value


def without(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a row that hold something, except for some.

    Example:
        >>> without({"id": 1, "level": 2, "solution": None}, ["id"])
        {'level': 2}
    """
    return {
        name: present(row, name)
        for name in row
        if name not in names and present(row, name) is not None
    }
