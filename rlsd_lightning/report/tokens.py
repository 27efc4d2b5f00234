"""Says how deep each token is coloured in each of the three views: credit, evidence weight, gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""One completion as the rollout recorder wrote it."""

LEVELS = 12
"""Depths of colour per direction; the style sheet has a class for each."""


@dataclass(frozen=True, slots=True)
class Scales:
    """The value that gets the deepest colour, for each view of the tokens; 0 where a view has nothing to show."""

    credit: float
    weight: float
    gain: float


@dataclass(frozen=True, slots=True)
class Token:
    """One token, ready for the template."""

    text: str
    classes: str
    """One per view (cp3: credit, positive, depth 3; wn1: weight; gp2: gain), and marks."""


def measure(rows: Sequence[Row]) -> Scales:
    """Find the scale of each view over all rows that are shown."""
    weights = _flat(rows, "weight")
    return Scales(
        credit=_high([abs(x) for x in _flat(rows, "credit")]),
        weight=max((abs(x - 1) for x in weights), default=0.0),
        gain=_high([abs(x) for x in _flat(rows, "gain")]),
    )


def depth(value: float | None, scale: float) -> int:
    """Turn a value into a signed depth of colour, -LEVELS to LEVELS.

    Example:
        >>> depth(0.5, 1.0), depth(-9.0, 1.0), depth(0.01, 1.0), depth(None, 1.0)
        (6, -12, 0, 0)
    """
    if value is None or scale == 0:
        return 0
    size = min(LEVELS, round(abs(value) / scale * LEVELS))
    return size if value > 0 else -size


def token(row: Row, index: int, scales: Scales) -> Token:
    """Prepare one token of a completion for the page."""
    text, weight = row["tokens"][index], row["weight"][index]
    views = (
        ("c", depth(row["credit"][index], scales.credit)),
        ("w", depth(None if weight is None else weight - 1, scales.weight)),
        ("g", depth(row["gain"][index], scales.gain)),
    )
    classes = [f"{view}{'p' if level > 0 else 'n'}{abs(level)}" for view, level in views if level]
    clipped = row.get("clipped")  # not in the rows of a method that weighs nothing
    if clipped and clipped[index]:
        classes.append("clip")
    if text.startswith("<|") and text.endswith("|>"):
        classes.append("special")
    return Token(visible(text), " ".join(classes))


def visible(text: str) -> str:
    r"""Make line ends and tabs visible; an empty piece (part of a character) becomes a middle dot.

    Example:
        >>> ascii(visible("a\n")), ascii(visible(""))
        ("'a\\u21b5\\n'", "'\\xb7'")
    """
    return text.replace("\n", "\u21b5\n").replace("\t", "\u21e5\t") if text else "\u00b7"


def _flat(rows: Sequence[Row], name: str) -> list[float]:
    def values() -> Iterator[float]:
        for row in rows:
            yield from (value for value in row.get(name) or () if value is not None)

    return list(values())


def _high(values: list[float]) -> float:
    """The 98th percentile, so that one outlier does not bleach the rest; the maximum where that is 0."""
    if not values:
        return 0.0
    values.sort()
    return values[int(0.98 * (len(values) - 1))] or values[-1]
