"""How many edits lie between two sequences: characters of two texts, or their words.

Exact, by bit-parallel dynamic programming: a whole column of the edit table lies in two integers, so 20,000 characters
against 20,000 take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the least number of items to insert, delete or replace to make one sequence the other.

    Myers' algorithm in Hyyro's form for whole sequences ("A bit-vector algorithm for computing Levenshtein and Damerau
    edit distances", 2003). Bit i of `rises` (`falls`) is set where the table's column goes up (down) by one from row i
    to row i + 1.

    Args:
        one: a text or a list of words. [n]
        other: another. [m]

    Example:
        >>> edit_distance("kitten", "sitting")
        3
        >>> edit_distance("the red cat".split(), "the cat".split())
        1
    """
    if not one or not other:
        return max(len(one), len(other))
    places = _places(one)
    every, last = (1 << len(one)) - 1, 1 << len(one) - 1
    rises, falls, distance = every, 0, len(one)
    for item in other:
        equal = places.get(item, 0)
        diagonal = (((equal & rises) + rises) ^ rises) | equal
        right_up = (falls | (every & ~(diagonal | rises))) & every
        right_down = rises & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1 | 1) & every
        right_down = (right_down << 1) & every
        rises = right_down | (every & ~(equal | falls | right_up))
        falls = right_up & (equal | falls)
    return distance


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the length of the longest sequence that can be left of both by deleting items.

    Bit-parallel as well (Hyyro, "Bit-parallel LCS-length computation revisited", 2004): a bit of `unmatched` falls where
    the common sequence grows.

    Args:
        one: a text or a list of words. [n]
        other: another. [m]

    Example:
        >>> common_length("the red cat".split(), "the fat red dog".split())
        2
    """
    places = _places(one)
    every = unmatched = (1 << len(one)) - 1
    for item in other:
        matched = unmatched & places.get(item, 0)
        unmatched = ((unmatched + matched) | (unmatched - matched)) & every
    return len(one) - unmatched.bit_count()


def _places(items: Sequence[Hashable]) -> dict[Hashable, int]:
    """Return for each item an integer whose bit i says that it stands at place i."""
    places: dict[Hashable, int] = {}
    for index, item in enumerate(items):
        places[item] = places.get(item, 0) | 1 << index
    return places
