r"""MMMU's own reading of responses, in linear time: a letter among options, the strings and numbers of an open answer.

Facts from MMMU-Benchmark/MMMU at bb0b95a9, mmmu/utils/eval_utils.py. Its number patterns try every digit of a run as a
start; here a run is tried once, from its first digit, which finds the same: what follows a run decides alone. Where the
official code draws a random letter, None is returned.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

Reading: TypeAlias = str | float
"""A normalised answer: a number of two decimals, or a string in lower case."""

_STRIPPED = ",.!?;:'"
"""Stripped one after the other, each once: "B.," loses both, "B,." only its period."""
_MIN_WORDS_FOR_TEXT = 6
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,234,567
    re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+"),  # 1.5e-3
    re.compile(r"-?(?:(?<!\d)(?:\d+\.\d+|\d+\b)|\.\d+)(?![eE][+-]?\d)(?![,\d])"),  # 12, 1.5, .5
)
_WHOLE_FROM = 2.0**53
"""Floats from here on are whole: nothing to round, which is slow for large ones."""


def read_letter(response: str, choices: Mapping[str, str]) -> str | None:
    """Return the letter that a response gives by the official rule; None where the official code draws one at random.

    The first form that any option has counts: "(B)"; a B between spaces; the option's text, in any case, in a response of
    more than five words. Of several options the one that comes last counts, on a tie the first of them.

    Args:
        response: a response.
        choices: option texts by letter, in order.

    Example:
        >>> choices = {"A": "red", "B": "green"}
        >>> read_letter("(A) is wrong and (B) is right, so the answer is A", choices)
        'B'
        >>> read_letter("We see that the leaf is Green", choices)
        'B'
        >>> read_letter("**B**", choices) is None
        True
    """
    for char in _STRIPPED:
        response = response.strip(char)
    response = f" {response} "
    bracketed = {letter: response.rfind(f"({letter})") for letter in choices}
    if found := _last(bracketed):
        return found
    spaced = {letter: response.rfind(f" {letter} ") for letter in choices}
    if found := _last(spaced):
        return found
    if len(response.split(maxsplit=_MIN_WORDS_FOR_TEXT)) < _MIN_WORDS_FOR_TEXT:
        return None
    lower = response.lower()
    return _last({letter: lower.rfind(text.lower()) for letter, text in choices.items()})


def _last(places: Mapping[str, int]) -> str | None:
    """Return what occurs last, the first of equals; None if nothing occurs, which is place -1."""
    last = max(places, key=places.__getitem__)
    return last if places[last] >= 0 else None


def read_open(response: str) -> list[Reading]:
    """Return the strings and numbers that a response to an open question gives by the official rule, each once.

    Every line's shortest tail after a word such as "is " counts, and all numbers in it; the whole response where no line
    has one. The official split at sentences comes after lower-casing and looks for capitals, so that only lines split.

    Args:
        response: a response.

    Example:
        >>> read_open("We find M = 30 kips.")
        ['30 kips', 30.0]
        >>> read_open("Therefore the Answer is B")
        [' b', 'b ']
    """
    keys = key_answers(response)
    numbers = dict.fromkeys(find_numbers("\n".join(keys)))
    return list(dict.fromkeys(value for text in (*keys, *numbers) for value in normalise(text)))


def key_answers(response: str) -> list[str]:
    r"""Return what stands behind the words that announce an answer, in lower case, each once; else the whole response.

    Args:
        response: a response.

    Example:
        >>> key_answers("The sum is 4 so it is even\nx = 4")
        ['even', '4']
        >>> key_answers("Four.")
        ['four']
    """
    response = response.strip().strip(".").lower()
    *lines, last = response.split("\n")
    tails = [_shortest_tail(line, _INDICATORS) for line in dict.fromkeys(lines)]
    tails.append(_shortest_tail(last, (*_INDICATORS, "=")))
    return list(dict.fromkeys(filter(None, tails))) or [response]


def _shortest_tail(line: str, indicators: Sequence[str]) -> str:
    """Return the shortest text after the last of an indicator; one behind which nothing stands gives way to the next."""
    shortest = ""
    for indicator in indicators:
        if indicator in line:
            tail = line.rpartition(indicator)[2].strip()
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return "" if shortest in _TRIVIAL else shortest


def find_numbers(text: str) -> list[str]:
    """Return all numbers of a text as they are spelled: those with commas, in scientific notation, simple ones.

    What follows a comma or an "e" is found as a simple number too.

    Example:
        >>> find_numbers("1,200 of -2e3 and 7 or .5")
        ['1,200', '-2e3', '200', '3', '7', '.5']
    """
    return [number for pattern in _NUMBERS for number in pattern.findall(text)]


def normalise(text: str) -> list[Reading]:
    """Return a number rounded to two decimals if the text is one, else the text in lower case.

    One character becomes two strings with a space beside it, so that it does not match within every word.

    Example:
        >>> normalise(" 1,000.006 "), normalise("Tampa"), normalise("C")
        ([1000.01], ['tampa'], [' c', 'c '])
    """
    text = text.strip()
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]
    return [round(number, 2) if abs(number) < _WHOLE_FROM else number]


def open_is_right(readings: Collection[Reading], golds: Sequence[str]) -> bool:
    """Return whether any string read contains a gold string, or any number read equals a gold number.

    Args:
        readings: as read_open gives them.
        golds: all accepted answers.

    Example:
        >>> open_is_right(["not a transformation"], ["Transformation"])
        True
        >>> open_is_right(["28.6%", 28.6], ["0.286"])
        False
    """
    normalised = [value for gold in golds for value in normalise(gold)]
    texts = [value for value in normalised if isinstance(value, str)]
    return any(
        any(text in reading for text in texts)
        if isinstance(reading, str)
        else reading in normalised
        for reading in readings
    )
