r"""One option of several.

An answer names an option by its letter ("B", "(b)", "B. dog", "The answer is B.") or by its text ("dog"). What names
two options, or rules one out, names none. A letter counts only where it cannot be part of a word or a formula.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Mapping, Sequence

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.verdicts import not_judged, quoted, right_or_wrong

MAX_CHARS = 2_000
"""A longer answer is an essay, not a choice."""
_OPENING, _CLOSING = r"[(\[*]*", r"[)\]*]*"
_LEAD = r"(?:the )?(?:correct |right |best |final )?(?:option|choice|answer)(?: is)?\s*:?\s*"
_ALONE = re.compile(rf"(?:{_LEAD})?{_OPENING}\b(?P<letter>[A-Z])\b{_CLOSING}", re.IGNORECASE)
_LABEL = re.compile(
    rf"(?:{_LEAD})?"
    r"(?:[(\[](?P<a>[A-Z])[)\]][.:]?|(?P<b>[A-Z])(?:[.:)\]]|(?=\n)|\s?[-\u2013](?=\s)))\s+(?P<text>.+)",
    re.IGNORECASE | re.DOTALL,
)
_A_AS_LETTER = (
    r"A\b(?!\s+(?!is\b|because\b|since\b|as\b)[a-z])"  # "the answer is A dog" names no letter
)
_MENTION = re.compile(
    rf"(?i:\b(?:option|choice|answer(?: is)?|choose|pick|select|go with)\b)\s*:?\s*{_OPENING}(?P<a>{_A_AS_LETTER}|[B-Z]\b)(?!')"
    r"|(?<![A-Za-z0-9_])[(\[](?P<b>[A-Z])[)\]]"
    rf"|(?:\bis|:)\s*{_OPENING}(?P<c>[A-Z]){_CLOSING}\s*$"
    rf"|^{_OPENING}(?P<d>[A-Z]){_CLOSING}\s+(?:because|since|as|is (?:the )?(?:correct|right|best|answer))\b"
)
_SEVERAL = re.compile(
    rf"\b(?:or|and|nor)\s+(?:option\s+)?{_OPENING}[A-HJ-Z]\b|\b[A-Z]\s*[,/&]\s*{_OPENING}[A-Z]\b"
)
_LISTED = re.compile(r"(?:^|\s)[(\[]?([A-Z])[.:)\]](?=\s|$)")
"""What begins another option of a list: " B. ", " (B) "."""
_RULED_OUT = re.compile(r"\b(?:not|isn't|wrong|incorrect|false|neither|except)\b", re.IGNORECASE)
_ARTICLES = ("a", "an", "the")
_Options = tuple[tuple[str, str], ...]
"""Letters with their texts."""


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    r"""Return the letter of the one option that an answer names; None where it names none or several.

    Args:
        answer: what stands in the answer tag.
        options: the text of each option by its letter in upper case; a text may be empty where it is not known.

    Example:
        >>> options = {"A": "cat", "B": "dog", "C": "cow"}
        >>> [read_choice(text, options) for text in ["(b)", "B. dog", "a dog", r"\text{B}", "The answer is B."]]
        ['B', 'B', 'B', 'B', 'B']
        >>> [read_choice(text, options) for text in ["B or C", "Because it barks", "B. cat", "(A) (B)", "not B"]]
        [None, None, None, None, None]
    """
    return None if len(answer) > MAX_CHARS else _read(answer, tuple(options.items()))


@functools.lru_cache(maxsize=4096)
def _read(answer: str, listed: _Options) -> str | None:
    answer, options = undecorated(answer), dict(listed)
    if not answer:
        return None
    alone = _ALONE.fullmatch(answer)
    if alone and alone["letter"].upper() in options:
        return alone["letter"].upper()
    by_text = _by_text(answer, options)
    if by_text:
        return by_text
    if _SEVERAL.search(answer):
        return None
    label = _LABEL.fullmatch(answer)
    return _labelled(label, options) if label else _mentioned(answer, options)


def _by_text(answer: str, options: Mapping[str, str]) -> str | None:
    """Return the one option whose text the answer is: to the letter first, then but for case, blanks and articles."""
    to_the_letter, loosely = _letters_by_text(tuple(options.items()))
    return to_the_letter.get(answer.strip()) or loosely.get(_loosely(answer))


@functools.lru_cache(maxsize=1024)
def _letters_by_text(
    options: _Options,
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return the options' letters by their texts, as they are and loosely; None where several have the same text."""
    found: tuple[dict[str, str | None], dict[str, str | None]] = ({"": None}, {"": None})
    for letter, text in options:
        for letters, key in zip(found, (text.strip(), _loosely(text)), strict=True):
            letters[key] = None if key in letters else letter
    return found


def _loosely(text: str) -> str:
    """Signs stay, as -5 is not 5."""
    return " ".join(word for word in undecorated(text).lower().split() if word not in _ARTICLES)


def _labelled(label: re.Match[str], options: Mapping[str, str]) -> str | None:
    """Return the letter before a text, unless the text names another option or lists one."""
    letter, text = (label["a"] or label["b"]).upper(), label["text"]
    alone = _ALONE.fullmatch(undecorated(text))
    other = alone["letter"].upper() if alone else _by_text(text, options)
    if other is None and (set(_LISTED.findall(text)) & set(options)) - {letter}:
        return None
    return letter if letter in options and other in (None, letter) else None


def _mentioned(answer: str, options: Mapping[str, str]) -> str | None:
    """Return the one letter that a sentence names as its answer."""
    if _RULED_OUT.search(answer):
        return None
    letters = {match[match.lastgroup] for match in _MENTION.finditer(answer)} & set(options)
    return letters.pop() if len(letters) == 1 else None


class MultipleChoice:
    """Right if the answer names the option that the gold answer names.

    The options come from `problem.extra["options"]`: texts by letter, or a list of texts for A, B, C, ... The gold
    answer is a letter or an option's text.

    Args:
        letters: the options of a problem that lists none, as where they stand in the question's own text.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", answer="B", extra={"options": ["cat", "dog"]})
        >>> MultipleChoice().verify(problem, "<answer>dog</answer>").correct
        True
    """

    def __init__(
        self,
        *,
        letters: str = "ABCDEFGH",
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        if not (letters.isascii() and letters.isalpha() and letters.isupper()):
            raise ValueError(
                f"MultipleChoice: letters is {letters!r}, but it must be capital letters. Write ABCD, for example."
            )
        self.letters = letters
        self.sources = check_extraction("MultipleChoice", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the option that `problem.answer` names."""
        options = self._options(problem)
        wanted = read_choice(problem.answer, options)
        if wanted is None:
            known = ", ".join(options)
            return not_judged(
                f"the gold answer {quoted(problem.answer)} names none of the options {known}"
            )
        answer = extract_answer(response, self.which, self.sources)
        correct = answer is not None and read_choice(answer, options) == wanted
        return right_or_wrong(correct, answer, problem.answer)

    verify_quickly = verify

    def _options(self, problem: Problem) -> dict[str, str]:
        """Return the texts of the options by letter."""
        given = problem.extra.get("options")
        if given is None:
            return dict.fromkeys(self.letters, "")
        if isinstance(given, Sequence) and not isinstance(given, str) and 0 < len(given) <= 26:
            return dict(zip(string.ascii_uppercase, map(str, given), strict=False))
        options: dict[str, str] = {}
        if isinstance(given, Mapping):
            options = {str(letter).strip().upper(): str(text) for letter, text in given.items()}
        if not options or not all(len(letter) == 1 and "A" <= letter <= "Z" for letter in options):
            raise ValueError(
                f"{problem.place}: extra.options is {given!r}, but it must be texts by letter (A: cat, B: dog) or a "
                f"list of at most 26 texts. Mend it in the data set."
            )
        return options
