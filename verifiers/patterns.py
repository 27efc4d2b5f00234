"""Regular expressions that come with a problem, run so that they cannot hang.

Python's own `re` holds the interpreter until it is done, which for a pattern like (a+)+b can be after the end of the
run; no deadline reaches it. The package `regex` reads the same patterns and stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import regex

TIME_LIMIT_S = 1.0
"""Processor time for one match. An ordinary pattern needs less than a thousandth of it."""


def matches_somewhere(pattern: str, text: str, seconds: float = TIME_LIMIT_S) -> bool:
    """Whether a pattern matches some part of a text.

    Args:
        pattern: of the problem; it compiles (see pattern_fault).
        text: what to look through; of bounded length.
        seconds: processor time of the process.

    Raises:
        TimeoutError: it took longer.

    Example:
        >>> matches_somewhere("b+", "abbc"), matches_somewhere("^b", "abbc")
        (True, False)
    """
    return _run(regex.search, pattern, text, seconds)


def matches_whole(pattern: str, text: str, seconds: float = TIME_LIMIT_S) -> bool:
    r"""Whether a pattern matches the whole of a text.

    Args:
        pattern: as for matches_somewhere.
        text: as for matches_somewhere.
        seconds: as for matches_somewhere.

    Raises:
        TimeoutError: it took longer.

    Example:
        >>> matches_whole(r"\d+", "42"), matches_whole(r"\d+", "42\n")
        (True, False)
    """
    return _run(regex.fullmatch, pattern, text, seconds)


def pattern_fault(pattern: str) -> str:
    """Return why a pattern cannot be used; nothing if it can.

    Example:
        >>> pattern_fault("a|b"), pattern_fault("(a")
        ('', 'missing ) at position 2')
    """
    try:
        regex.compile(pattern)
    except regex.error as error:
        return str(error)
    return ""


def _run(match: Callable[..., object], pattern: str, text: str, seconds: float) -> bool:
    try:
        return match(pattern, text, timeout=seconds) is not None
    except TimeoutError:
        raise TimeoutError(f"took longer than {seconds:g} s") from None
