"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a sentence with the nearest choices, or nothing where none is near.

    Dotted words are compared part by part: first with their siblings, then with whatever ends alike, then as a
    whole, so that a long common beginning makes nothing look near.

    Args:
        word: what was written.
        choices: what could have been meant.

    Example:
        >>> did_you_mean("credit.clip_rnage", ["credit.clip_range", "credit.lambda_", "loss.clip_low"])
        'Did you mean credit.clip_range?'
        >>> did_you_mean("lr", ["optim.lr", "seed"])
        'Did you mean optim.lr?'
        >>> did_you_mean("zebra", ["optim.lr", "seed"])
        ''
    """
    choices = sorted(set(choices))
    parent = word.rpartition(".")[0]
    siblings = [choice for choice in choices if choice.rpartition(".")[0] == parent]
    near = _by_last_part(word, siblings, cutoff=0.6) or _by_last_part(word, choices, cutoff=0.75)
    if not near and parent:
        near = difflib.get_close_matches(word, choices, n=2, cutoff=0.8)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _by_last_part(word: str, choices: list[str], cutoff: float) -> list[str]:
    """Return at most two choices whose last part is nearest to that of the word."""
    ends = {choice: choice.rpartition(".")[2] for choice in choices}
    near = difflib.get_close_matches(
        word.rpartition(".")[2], set(ends.values()), n=2, cutoff=cutoff
    )
    return [choice for choice, end in ends.items() if end in near][:2]
