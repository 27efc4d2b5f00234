r"""What people put round an answer that is not part of it: blanks, dollars, bold face, \text{}, a full stop."""

from __future__ import annotations

import functools

from rlsd_lightning.answers.extraction import closing_brace

_MAX_DECORATED_CHARS = 2_000
_MARKS = ("$$", "$", "**", "`", '"')
_BRACKETS = (("\\(", "\\)"), ("\\[", "\\]"))
_COMMANDS = ("\\boxed", "\\text", "\\textbf", "\\mathrm", "\\mathbf")
_FIRST_CHARACTERS = ("$", "*", "`", '"', "\\")


def undecorated(text: str) -> str:
    r"""Return a short answer without what surrounds the whole of it: blanks, dollars, bold, \text{}, a full stop.

    Args:
        text: an answer; a long one (over 2,000 characters) is returned as it is.

    Example:
        >>> undecorated(r"**$\text{B}$.**")
        'B'
        >>> undecorated("$5$ or $6$")
        '$5$ or $6$'
    """
    return text if len(text) > _MAX_DECORATED_CHARS else _undecorated(text)


@functools.lru_cache(maxsize=2048)
def _undecorated(text: str) -> str:
    while True:
        inner = _peel(_without_end(text.lstrip()))
        if inner == text:
            return text
        text = inner


def _without_end(text: str) -> str:
    """Return text without blanks and punctuation at its end; an ellipsis stays, as it says that more would follow."""
    while True:
        text = text.rstrip()
        if text.endswith(("\\,", "\\;", "\\:", "\\!")):
            text = text[:-2]
        elif text.endswith((".", ",", ";", ":")) and not text.endswith("..."):
            text = text[:-1]
        else:
            return text


def _peel(text: str) -> str:
    """Return text without its outermost decoration; unchanged where it has none."""
    if not text.startswith(_FIRST_CHARACTERS):
        return text
    for mark in _MARKS:
        inner = text[len(mark) : -len(mark)]
        if text == f"{mark}{inner}{mark}" and inner and mark[0] not in inner:
            return inner
    for opening, closing in _BRACKETS:
        inner = text[2:-2]
        if text == f"{opening}{inner}{closing}" and opening not in inner:
            return inner
    for command in _COMMANDS:
        if text.startswith(command) and closing_brace(text, len(command)) == len(text) - 1:
            return text[len(command) + 1 : -1]
    return text
