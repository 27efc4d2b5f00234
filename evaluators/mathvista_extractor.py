r"""Reads answers to MathVista's questions by rules alone. OURS: the benchmark's authors ask a language model for this.

A number that is got with these rules is not MathVista's official one, only near it. What is read, in this order:

    where    the first <answer>, else the last \boxed{}, else all; a box inside of it; behind the last "answer is" or
             "answer:" up to the end of the line; else the last line that is not empty
    a choice a choice's own text; a letter alone, with brackets, a full stop or "option" around it; a letter with a
             bracket, full stop or colon behind it ("C. 145"); else all, to be matched with the nearest choice
    a number behind the last "=", if just one stands there, with or without thousands commas, $, %, a unit, simple LaTeX;
             a fraction becomes a decimal number
    a list   what stands in the last square brackets, with one blank behind each comma

Two numbers are no answer, since which of them is meant would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlsd_lightning.answers.extraction import MAX_WHOLE_RESPONSE_CHARS, last_boxed
from rlsd_lightning.evaluators.mathvista_rules import answer_type, is_multiple_choice, letters_of
from rlsd_lightning.scoring.extract import answer_tag_or_box
from rlsd_lightning.types import Problem

_PHRASES = ("answer is", "answer:")
_GROUP = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:left|right|[;:!])|\^\{?\\circ\}?|(?<=[A-Za-z])\^\{?\d+\}?")
_COMMA = re.compile(r"\{,\}|\\,")
_SIGNS = re.compile(r"\\?[$%]|\\ ")
_LETTER = re.compile(r"(?:(?:option|choice)\s*)?[(\[{]?([A-Za-z])[)\]}]?[.,:]?", re.IGNORECASE)
_LETTER_FIRST = re.compile(r"[(\[]?([A-Z])[)\].:]\s")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])([-+]?(?:{_DIGITS})(?:[eE][-+]?\d+)?)(?:\s*/\s*({_DIGITS}))?", re.ASCII
)
_LIST = re.compile(r"\[([^\[\]]*)\]")


def read_answer(problem: Problem, response: str) -> str:
    r"""Return the extraction that the rules above read off a response; empty where they read none.

    Example:
        >>> weight = Problem(id="2", prompt="?", extra={"question_type": "free_form", "answer_type": "integer"})
        >>> read_answer(weight, r"First 3, then 4.\nThe answer is $1{,}000\text{ g}$."), read_answer(weight, "3 or 4")
        ('1000', '')
    """
    text = answer_tag_or_box(response)
    boxed = last_boxed(text)
    place = _last_word(text if boxed is None else boxed)
    if len(place) > MAX_WHOLE_RESPONSE_CHARS:
        return ""
    if is_multiple_choice(problem):
        return read_choice(place, problem.extra["choices"])
    return read_list(place) if answer_type(problem) == "list" else read_number(place)


def read_choice(text: str, choices: Sequence[str]) -> str:
    r"""Return the letter or the choice that a short text names, else the text.

    Example:
        >>> [read_choice(text, ["7", "8"]) for text in ("8", "option b.", r"\text{(A)}", "B. eight", "no idea")]
        ['8', 'B', 'A', 'B', 'no idea']
    """
    letters = letters_of(choices)
    for candidate in (text.strip(), _plain(text)):
        if candidate in choices:
            return candidate
        for form in (_LETTER.fullmatch(candidate), _LETTER_FIRST.match(candidate)):
            if form and form[1].upper() in letters:
                return form[1].upper()
    return text.strip()


def read_number(text: str) -> str:
    r"""Return the only number of a short text, as float() reads it; empty where there is none, or several.

    Example:
        >>> [read_number(text) for text in ("about 1,200 cm^2", r"\$4.50", "-3 + 5 = 2", r"\frac{6}{5}", "2 of 3", "none")]
        ['1200', '4.50', '2', '1.2', '', '']
    """
    plain = _plain(_COMMA.sub(",", _FRACTION.sub(r"\1/\2", text)))
    found = _NUMBER.findall(plain.replace("\N{MINUS SIGN}", "-").rpartition("=")[2])
    if len(found) != 1:
        return ""
    upper, lower = (part.replace(",", "") for part in found[0])
    if not lower:
        return upper
    return str(float(upper) / float(lower)) if float(lower) else ""


def read_list(text: str) -> str:
    """Return the last list of a short text, in the form in which golds are written; empty where there is none.

    Example:
        >>> read_list("between the years [2014,2016]."), read_list("2014")
        ('[2014, 2016]', '')
    """
    found = _LIST.findall(text)
    return f"[{', '.join(item.strip() for item in found[-1].split(','))}]" if found else ""


def _last_word(text: str) -> str:
    """Return what stands behind the last phrase that announces an answer, else the last line that is not empty."""
    lower = text.translate(_LOWER)
    ends = [start + len(phrase) for phrase in _PHRASES if (start := lower.rfind(phrase)) >= 0]
    announced = text[max(ends) :].lstrip(" *:").partition("\n")[0].strip() if ends else ""
    return announced or text.rstrip().rpartition("\n")[2].strip()


def _plain(text: str) -> str:
    """Return a text without simple LaTeX, currency and percent signs, and what sets it off at its ends."""
    without_latex = _SPACING.sub("", _GROUP.sub(r"\1", text))
    return _SIGNS.sub(" ", without_latex).strip(" *_`\"'").removesuffix(".")


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
"""Unlike str.lower(), keeps every position."""
