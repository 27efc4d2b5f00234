r"""What a mathematical answer comes down to: the formula in its box, in its dollars, or the number in its sentence.

Math-Verify searches a text for anything it can parse, down to the last number of a formula it could not. So the formula is
found here, by rules that take either the whole of something or nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlsd_lightning.answers.extraction import box_span
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.numerals import split_percent

_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NAME = re.compile(r"[A-Za-z(), ']*(?:\\[A-Za-z]+)?[A-Za-z(), ']*")
_LIST_BETWEEN = re.compile(
    r"[\s,;$]*(?:[a-z ]*\b(?:and|or)\b[a-z ]*|\\text\{\s*(?:and|or)\s*\})?[\s,;$]*"
)
_MAX_BETWEEN_CHARS = 70
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?(?:\s*(?:\\?%|percent\b))?", re.ASCII
)
_NUMBERS_LISTED = re.compile(r"\d\W*\s(?:or|and)\s\W*\d")
_WORD = re.compile(r"[A-Za-z]{2,}")
_RULED_OUT = re.compile(r"\b(?:not|never|except|without)\s*$", re.IGNORECASE)
_FUNCTION = re.compile(
    r"\b(?:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|lg|exp|sqrt|max|min|gcd|lcm|mod)\b"
)
_UPRIGHT = re.compile(r"\\mathrm(?:\{([ei])\}|\s+([ei])\b)")
_NO_CONTENT = " $.,;:!?*_{}()[]"


@dataclass(frozen=True, slots=True)
class Expression:
    """What an answer comes down to."""

    latex: str
    """Without dollars, box and percent sign; empty if there is nothing in it."""
    percent: bool = False
    """Whether a percent sign or word stood behind it."""


def read_expression(answer: str) -> Expression:
    r"""Find out what an answer comes down to.

    Of a text with boxes, the last one; of a sentence with formulas in dollars, the last one that says more than a
    name; of a sentence in words, its last number; and otherwise the whole answer. Of a question, what follows it. What is listed side by side ("$5$ or
    $6$") is taken together, as a set, so that no one can hedge.

    Args:
        answer: what stands in an answer tag, or a gold answer.

    Example:
        >>> read_expression(r"The distance is $\boxed{125}$ miles.").latex
        '125'
        >>> read_expression(r"The largest $n$ is 34.").latex, read_expression("$5$ or $6$").latex
        ('34', '5,6')
        >>> read_expression(r"$28\%$")
        Expression(latex='28', percent=True)
    """
    text, percent = split_percent(undecorated(answer.replace("\\$", "")))
    text = undecorated(text)
    asked, _, said = text.rpartition("?")
    if asked and said.strip(_NO_CONTENT) and "\\boxed" not in text:
        text = said.strip()
    found = boxed(text) or formula_in_sentence(text) or number_in_sentence(text) or text
    latex, percent_inside = split_percent(undecorated(found))
    latex = _UPRIGHT.sub(r"\1\2", undecorated(latex.replace("$", "")))
    return Expression(latex if latex.strip(_NO_CONTENT) else "", percent or percent_inside)


def boxed(text: str) -> str | None:
    r"""Return the content of the last box, with those of boxes listed just before it; None where there is none.

    Example:
        >>> boxed(r"\boxed{3}, but that forgets a case, so \boxed{5}"), boxed(r"\boxed{3}, \boxed{5}")
        ('5', '3,5')
    """
    spans = []
    start = text.find("\\boxed")
    while start >= 0:
        span = box_span(text, start)
        if span is not None:
            spans.append((start, span[1] + 1, text[slice(*span)]))
        start = text.find("\\boxed", span[1] if span else start + 1)
    return _last_listed(text, spans)


def formula_in_sentence(text: str) -> str | None:
    r"""Return the last formula in a text that says more than a name, and those listed before it; None if there is none.

    A formula that is a name alone counts if the sentence has no number either ("It is $E$").

    Example:
        >>> formula_in_sentence("Therefore $x \\geq 5$ solves $E$."), formula_in_sentence("so $n$ is 34") is None
        ('x \\geq 5', True)
    """
    spans = [(m.start(), m.end(), undecorated(m[m.lastindex])) for m in _FORMULA.finditer(text)]
    telling = [span for span in spans if not _NAME.fullmatch(span[2])]
    if telling or number_in_sentence(text) is None:
        return _last_listed(text, telling or spans)
    return None


def number_in_sentence(text: str) -> str | None:
    """Return the last number of a text that begins with words and has no LaTeX; None if it is no such text.

    Example:
        >>> number_in_sentence("so there are 12 of them"), number_in_sentence("It is 28%.")
        ('12', '28%')
        >>> [number_in_sentence(text) for text in ("either 5 or 6", "sin 30", "ab3", "10 apples", "it is not 5")]
        [None, None, None, None, None]
    """
    plain = _FORMULA.sub(" ", text)
    numbers = list(_NUMBER.finditer(plain))
    if not numbers or "\\" in plain.replace("\\%", "") or _NUMBERS_LISTED.search(plain):
        return None
    before = plain[: numbers[0].start()]
    words = _WORD.findall(before)
    if not words or not before.startswith(words[0]) or _FUNCTION.search(before):
        return None
    if _RULED_OUT.search(plain[: numbers[-1].start()]):
        return None
    is_sentence = len(words) > 1 or (
        len(words[0]) > 2 and before[len(words[0]) :].strip() in ("", ":")
    )
    return numbers[-1][0].rstrip(",") if is_sentence else None


def _last_listed(text: str, spans: list[tuple[int, int, str]]) -> str | None:
    """Join the last span's content with the contents of the spans that are listed before it.

    Args:
        text: what the spans stand in.
        spans: begin, end and content of each, in order.
    """
    if not spans:
        return None
    first = len(spans) - 1
    while first > 0 and _is_list(text[spans[first - 1][1] : spans[first][0]]):
        first -= 1
    return ",".join(content.strip() for _, _, content in spans[first:])


def _is_list(between: str) -> bool:
    """Whether what stands between two formulas makes a list of them."""
    between = between.replace("\\quad", " ")
    return len(between) <= _MAX_BETWEEN_CHARS and bool(_LIST_BETWEEN.fullmatch(between))
