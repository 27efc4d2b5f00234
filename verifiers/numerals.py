r"""Numbers as people write them: signs, thousands separators, scientific notation, percent, units.

Nothing is evaluated: "1/2", "2+2" and "forty-two" are no numerals. Only ASCII digits count.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlsd_lightning.verifiers.decoration import undecorated

MAX_CHARS = 200
"""A longer text is no numeral, whatever stands in it."""
_NUMERAL = re.compile(
    r"(?P<digits>[+-]?(?:[1-9]\d{0,2}(?:[, ]\d{3})+|\d+)?(?:\.\d*)?)(?:[eE](?P<power>[+-]?\d{1,6}))?",
    re.ASCII,
)
_TIMES_TEN_TO = re.compile(
    r"\s*(?:\\times|\\cdot|[x*\u00d7])\s*10\s*\^\s*\{?\s*([+-]?\d{1,6})\s*\}?$", re.ASCII
)
_PERCENT = re.compile(r"\s*(?:\\?%|\b(?:percent|percentage|pct))\s*$", re.IGNORECASE)
_SPELLINGS = {
    "\u2212": "-",  # minus sign
    "\u00a0": " ",  # no-break space
    "\u2009": " ",  # thin space
    "\u202f": " ",  # narrow no-break space
    "{,}": ",",
    "\\,": " ",
    "\\!": "",
}


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as it was written."""

    value: float
    """Finite; of "28%" it is 28."""
    percent: bool = False
    """Whether a percent sign or word follows."""
    unit: str | None = None
    """The unit that was written, of those that were allowed."""


def read_numeral(text: str, units: Sequence[str] = ()) -> Numeral | None:
    r"""Read a text that is one number and nothing else; None where it is not, or where the number is not finite.

    Args:
        text: an answer; dollars, boxes and a full stop round the whole of it do not count.
        units: what may stand behind the number or before it ("cm", "$"), upper and lower case told apart.

    Example:
        >>> read_numeral("$-1,234.50$")
        Numeral(value=-1234.5, percent=False, unit=None)
        >>> read_numeral("28 \\%").percent
        True
        >>> read_numeral("3 cm", units=["m", "cm"]).unit
        'cm'
        >>> read_numeral("6.02 \\times 10^{23}").value
        6.02e+23
        >>> read_numeral("1e999") is None, read_numeral("nan") is None
        (True, True)
    """
    return None if len(text) > MAX_CHARS else _read(text, tuple(units))


@functools.lru_cache(maxsize=4096)
def _read(text: str, units: tuple[str, ...]) -> Numeral | None:
    for spelling, plain in _SPELLINGS.items():
        text = text.replace(spelling, plain)
    text, unit = _split_unit(undecorated(text), units)
    text, percent = split_percent(text)
    value = _value(undecorated(text))
    return None if value is None else Numeral(value, percent, unit)


def split_percent(text: str) -> tuple[str, bool]:
    r"""Return the text without a percent sign or word at its end, and whether there was one.

    Example:
        >>> split_percent("28 percent"), split_percent(r"28\%"), split_percent("28")
        (('28', True), ('28', True), ('28', False))
    """
    match = _PERCENT.search(text, max(0, len(text) - 20))
    return (text[: match.start()], True) if match else (text, False)


def _split_unit(text: str, units: Sequence[str]) -> tuple[str, str | None]:
    """Take the longest unit off the end or the beginning of a text."""
    for unit in sorted(units, key=len, reverse=True):
        bare = text.removesuffix(unit)
        if bare == text:
            bare = text.removeprefix(unit)
        if bare != text:
            return bare.removesuffix("\\").strip(), unit
    return text, None


def _value(text: str) -> float | None:
    """Return the finite number that a text spells out; None where it spells none."""
    power = "0"
    times = _TIMES_TEN_TO.search(text)
    if times:
        text, power = text[: times.start()], times[1]
    match = _NUMERAL.fullmatch(text)
    if match is None or not any(character.isdigit() for character in match["digits"]):
        return None
    if times and match["power"]:
        return None
    digits = match["digits"].replace(",", "").replace(" ", "")
    value = float(f"{digits}e{match['power'] or power}")
    return value if math.isfinite(value) else None
