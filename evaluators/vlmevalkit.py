"""Reading an option's letter off a response as VLMEvalKit does, without its judge; shared by several benchmarks.

Facts from VLMEvalKit at e8e78f05 (2026-08), vlmeval/utils/matching_util.py. Letters come back as they stand among the
choices, "Z" for a refusal, None where VLMEvalKit would ask its judge (and, with exact matching, count "Z": wrong). Its
guard against a capital article "A" only acts when the environment says VERBOSE, and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

REFUSAL = "Z"
"""The letter of a response that declines to answer."""
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_FAILED_CALL = "Failed to obtain answer via API"
_TO_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_NUM_LAST_TOKENS = 4
"""A lone letter counts only if it first occurs among so many last tokens."""
_ANSWER_IS = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")


def can_infer_option(answer: str, choices: Mapping[str, str]) -> str | None:
    """Return the letter that a response names as a word of its own, "Z" for a refusal, None if that is undecided.

    Brackets and most punctuation separate words; dashes, quotes, dollars and angle brackets do not. One letter alone must
    first occur among the last four words. Else the first "answer is X" counts, in any case: "the answer is a compression
    force" names A.

    Args:
        answer: a response.
        choices: option texts by letter.

    Example:
        >>> can_infer_option("So it is (C).", {"A": "1", "B": "2", "C": "3"})
        'C'
        >>> can_infer_option("C it is, as we can see here", {"A": "1", "B": "2", "C": "3"}) is None
        True
        >>> can_infer_option("The answer is a compression force.", {"A": "1", "B": "2"})
        'A'
    """
    if _FAILED_CALL in answer:
        return None
    if any(refusal in answer for refusal in _REFUSALS):
        return REFUSAL
    words = answer.translate(_TO_SPACES).split()
    different = set(words)
    found = [letter for letter in choices if letter in different]
    if len(found) == 1 and words.index(found[0]) >= len(words) - _NUM_LAST_TOKENS:
        return found[0]
    if not found and REFUSAL in different:
        return REFUSAL
    match = _ANSWER_IS.search(answer)
    return match[1].upper() if match and match[1].upper() in choices else None


def can_infer_text(answer: str, choices: Mapping[str, str]) -> str | None:
    """Return the letter of the only option whose text a short response contains, in any case; None if that is undecided.

    Args:
        answer: a response; short means at most twice as long as all options together.
        choices: option texts by letter.

    Example:
        >>> can_infer_text("A TEDDY bear", {"A": "rabbit", "B": "Teddy Bear"})
        'B'
        >>> can_infer_text("it is 20", {"A": "2", "B": "20"}) is None
        True
    """
    lower = answer.lower()
    if len(lower) > 2 * sum(len(text) for text in choices.values()):
        return None
    found = [letter for letter, text in choices.items() if text.lower() in lower]
    return found[0] if len(found) == 1 else None


def can_infer(answer: str, choices: Mapping[str, str]) -> str | None:
    """Return the letter that a response names or, failing that, whose text it contains; "Z" for a refusal, None if neither.

    Args:
        answer: a response.
        choices: option texts by letter.

    Example:
        >>> can_infer("$7", {"A": "$6", "B": "$7"})
        'B'
        >>> can_infer("Cannot determine the answer", {"A": "$6", "B": "$7"})
        'Z'
    """
    return can_infer_option(answer, choices) or can_infer_text(answer, choices)
