r"""MathVista's own rules (lupantech/MathVista 53d52587): what counts as an answer at once, and how an extraction is judged.

Between the two stands a language model that extracts answers, for which nothing here stands in. The edit distance that
picks the nearest choice is exact and fast on any text, so that a response of a megabyte is judged as a short one is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isnan
from string import ascii_uppercase

from rlsd_lightning.answers.edits import edit_distances
from rlsd_lightning.types import Problem

_BRACKETED_LETTER = re.compile(r"\(([a-zA-Z])\)")


def is_multiple_choice(problem: Problem) -> bool:
    """Whether one of given choices is asked for.

    Raises:
        ValueError: the problem does not say so, or has no choices.
    """
    kind = _published(problem, "question_type", "multi_choice or free_form")
    if kind not in ("multi_choice", "free_form"):
        raise ValueError(_lack(problem, f"question_type {kind!r}", "multi_choice or free_form"))
    if kind == "multi_choice" and not problem.extra.get("choices"):
        raise ValueError(_lack(problem, "no choices", "a list of texts, as it is a multi_choice"))
    return kind == "multi_choice"


def answer_type(problem: Problem) -> str:
    """Return text, integer, float or list.

    Raises:
        ValueError: the problem does not say.
    """
    return str(_published(problem, "answer_type", "text, integer, float or list"))


def quick_extraction(problem: Problem, response: str) -> str | None:
    """Return the extraction of a response that is nothing but an answer; None where a language model would be asked.

    Example:
        >>> number = Problem(id="2", prompt="?", extra={"question_type": "free_form", "answer_type": "integer"})
        >>> quick_extraction(number, " 1_000 "), quick_extraction(number, ""), quick_extraction(number, "1000 g")
        ('1000', '', None)
    """
    if response == "":
        return ""
    if is_multiple_choice(problem) and response in problem.extra["choices"]:
        return response
    parse = {"integer": int, "float": float}.get(answer_type(problem))
    try:
        return None if parse is None else str(parse(response))
    except ValueError:
        return None


def normalised_extraction(problem: Problem, extraction: str) -> str | None:
    """Return an extraction in the form in which golds are written; None where it has none.

    A choice: the first letter in round brackets, else the whole if it is an option's capital letter, else the nearest choice
    whatever was extracted. A whole number: cut off, not rounded. A number with decimals: rounded to the question's
    precision, of the binary number, so that 1.25 becomes 1.2. A list: as it stands, blanks included.

    The script's `round(x, precision)` needs a whole number; the hub's data set stores 1.0 and 2.0, which are taken as such.

    Args:
        problem: the question.
        extraction: what was read off a response.

    Raises:
        ValueError: the problem lacks what this needs.

    Example:
        >>> asked = {"question_type": "free_form", "answer_type": "float", "precision": 1.0}
        >>> normalised_extraction(Problem(id="1", prompt="?", extra=asked), "1.25")
        '1.2'
        >>> normalised_extraction(Problem(id="1", prompt="?", extra=asked), "1.25 cm") is None
        True
    """
    if is_multiple_choice(problem):
        return chosen(extraction, problem.extra["choices"])
    kind = answer_type(problem)
    if kind not in ("integer", "float"):
        return extraction
    digits = _precision(problem) if kind == "float" else 0
    try:
        number = float(extraction)
        return str(round(number, digits) if kind == "float" else int(number))
    except (ValueError, OverflowError):  # no number; an infinite one is no whole number
        return None


def chosen(extraction: str, choices: Sequence[str]) -> str:
    """Return the choice that an extraction names, or that is nearest to it.

    Example:
        >>> chosen("(b) or (a)", ["135 cm", "140 cm"]), chosen("B", ["135 cm", "140 cm"]), chosen("", ["yes", "no"])
        ('140 cm', '140 cm', 'no')
    """
    text = extraction.strip()
    bracketed = _BRACKETED_LETTER.search(text)
    letter = bracketed[1].upper() if bracketed else text
    letters = letters_of(choices)
    if letter in letters:
        return letters[letter]
    distances = edit_distances(letter, choices)
    return choices[distances.index(min(distances))]


def letters_of(choices: Sequence[str]) -> dict[str, str]:
    """Return choices by letter.

    Example:
        >>> letters_of(["yes", "no"])
        {'A': 'yes', 'B': 'no'}
    """
    return dict(zip(ascii_uppercase, choices, strict=False))


def _precision(problem: Problem) -> int:
    precision = problem.extra.get("precision")
    if precision is None or isnan(precision):
        raise ValueError(_lack(problem, f"precision {precision}", "how many decimals count"))
    return int(precision)


def _published(problem: Problem, field: str, needed: str) -> object:
    value = problem.extra.get(field)
    if value is None:
        raise ValueError(_lack(problem, f"no {field}", needed))
    return value


def _lack(problem: Problem, got: str, needed: str) -> str:
    return (
        f"MathVista: {problem.place} has {got}. Needed: {needed}. "
        f"Load the published fields into its extra, or remove the problem."
    )
