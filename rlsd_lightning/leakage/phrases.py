"""Completions that appeal to a reference nobody gave: the leak that shows in words."""

from __future__ import annotations

import re
from collections.abc import Sequence


def compile_phrases(phrases: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the phrases in upper and lower case, at the start of a word.

    So "reference" is found in "References" and not in "preference". Any white space stands for any other. The
    pattern is a choice of literal texts, so a search takes time linear in the text.

    Raises:
        ValueError: if there is no phrase, or one without a letter.

    Example:
        >>> bool(compile_phrases(["given solution"]).search("By the Given  solution, it is 5."))
        True
        >>> bool(compile_phrases(["reference"]).search("a matter of preference"))
        False
    """
    if not phrases or not all(re.search(r"\w", phrase) for phrase in phrases):
        raise ValueError(
            f"callbacks.leakage_probe.phrases is {list(phrases)}, but an empty phrase stands in every completion and no "
            "phrase in none. Needed: words by which a completion appeals to its reference, such as 'the reference "
            "solution'. Set prompt.leak_phrases."
        )
    literals = (r"\s+".join(re.escape(word) for word in phrase.split()) for phrase in phrases)
    # Before a letter of another script no boundary is asked for: Chinese has no spaces between words.
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(literals)})", re.IGNORECASE)


def appeals_to_reference(response: str, question: str, pattern: re.Pattern[str]) -> bool:
    """Say whether a completion speaks of a reference of which the question does not speak.

    Args:
        response: the completion's text.
        question: what the policy read; a phrase that stands in it is quoted, not leaked.
        pattern: from compile_phrases.

    Example:
        >>> pattern = compile_phrases(["given answer", "reference"])
        >>> appeals_to_reference("The reference says 5.", "What is 2 + 3?", pattern)
        True
        >>> appeals_to_reference("The given answer is right.", "Is the given answer 5 right?", pattern)
        False
    """
    return bool(_found(response, pattern) - _found(question, pattern))


def _found(text: str, pattern: re.Pattern[str]) -> set[str]:
    """Return the phrases in a text, each in one spelling."""
    return {" ".join(match.lower().split()) for match in pattern.findall(text)}
