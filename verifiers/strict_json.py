"""JSON as its standard has it (RFC 8259), read from model text: no NaN, no repeated name, no number that is none."""

from __future__ import annotations

import json
import math
from typing import Any

from rlsd_lightning.answers.extraction import fenced_block

MAX_CHARS = 200_000
"""A longer text is not read."""
MAX_NESTING = 50
"""Brackets within brackets; deeper ones are not read."""
_MAX_DIGITS = 300
"""A whole number with more digits may be no double."""


def read_json(text: str) -> Any:
    """Return the value that a text spells out.

    Args:
        text: the whole of it is one JSON value, blanks round it aside.

    Raises:
        ValueError: it is not, or its size, nesting or numbers are beyond measure; the message says which.

    Example:
        >>> read_json('{"a": [1, 2.5, null]}')
        {'a': [1, 2.5, None]}
        >>> read_json('{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ValueError: the name 'a' stands twice in one object
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"it has {len(text)} characters, more than {MAX_CHARS}")
    if _nesting(text) > MAX_NESTING:
        raise ValueError(f"it nests deeper than {MAX_NESTING} brackets")
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_constant=_refuse,
        parse_float=_float,
        parse_int=_int,
    )


def json_answer(answer: str, which: str = "last") -> Any:
    r"""Return the JSON value of an answer that is one, or holds one in a fenced code block.

    Args:
        answer: what stands in the answer tag, blanks round it taken off.
        which: of several code blocks, the first or the last.

    Raises:
        ValueError: as read_json.

    Example:
        >>> json_answer("Here:\n```json\n[1]\n```")
        [1]
    """
    block = None if answer.startswith(("{", "[", '"')) else fenced_block(answer, which)
    return read_json(answer if block is None else block)


def _nesting(text: str) -> int:
    """Return how deep brackets stand in brackets, those within strings aside."""
    depth = deepest = index = 0
    while index < len(text):
        character = text[index]
        if character == '"':
            index = _end_of_string(text, index)
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
        index += 1
    return deepest


def _end_of_string(text: str, index: int) -> int:
    """Return where the string that begins at `index` ends, or the text does."""
    index += 1
    while index < len(text) and text[index] != '"':
        index += 2 if text[index] == "\\" else 1
    return index


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:40]!a} stands twice in one object")
        found[name] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is beyond measure")
    return value


def _int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits, more than {_MAX_DIGITS}")
    return int(digits)
