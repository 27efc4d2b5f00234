r"""Words against words, under one of several rules.

    exact         the same characters, blanks around them aside
    alphanumeric  the same letters and digits, in any case ("New-York" is "new york")
    squad_em      the same words, without case, punctuation and articles (exact match of SQuAD, arXiv:1606.05250)
    squad_f1      the reward is the F1 score of the words shared; correct as under squad_em
    rouge_1       the reward is ROUGE-1, of stemmed English words; correct if all words are the same
    rouge_2       likewise of pairs of neighbouring words
    rouge_l       likewise of the longest run of words, gaps allowed, that stands in both
    rlsd_open_ended  as RLSD's released code: exact where the gold answer has at most 10 characters, else the mean of
                     rouge_1, rouge_2 and rouge_l

All but exact and rlsd_open_ended look through what stands round an answer: dollars, bold face, \text{}. What a rule leaves
empty, on either side, matches nothing.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.rouge import rouge_1, rouge_2, rouge_l, rouge_words
from rlsd_lightning.verifiers.verdicts import not_judged, quoted, right_or_wrong

MAX_CHARS = 20_000
"""A longer answer is wrong unread."""
_SHORT_CHARS = 10
"""RLSD's code compares shorter gold answers letter by letter."""
_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))


def letters_and_digits(text: str) -> str:
    """Return the letters and digits of a text in lower case, an accented letter being one letter.

    Example:
        >>> letters_and_digits("U.S.A.")
        'usa'
    """
    lower = unicodedata.normalize("NFC", undecorated(text)).lower()
    return "".join(character for character in lower if character.isalnum())


def squad_words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and articles.

    Example:
        >>> squad_words("The Eiffel-Tower, a sight.")
        ['eiffeltower', 'sight']
    """
    words = undecorated(text).lower().translate(_PUNCTUATION).split()
    return [word for word in words if word not in ("a", "an", "the")]


def word_f1(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of the words two texts share; 0 if either has none.

    Args:
        got: the answer's words.
        wanted: the gold answer's words.

    Example:
        >>> word_f1(["city", "of", "paris"], ["paris"])
        0.5
    """
    shared = sum((Counter(got) & Counter(wanted)).values())
    return 2 * shared / (len(got) + len(wanted)) if shared else 0.0


def open_ended(got: str, wanted: str) -> float:
    """Return RLSD's reward for open-ended questions.

    Args:
        got: the answer.
        wanted: the gold answer.

    Example:
        >>> open_ended("a red cat", "a red fat cat in a hat") == (6 / 10 + 2 / 8 + 6 / 10) / 3
        True
        >>> open_ended("red cat", "red cats")
        0.0
    """
    if len(wanted) <= _SHORT_CHARS:
        return float(got == wanted)
    words = rouge_words(got), rouge_words(wanted)
    return sum(rouge(*words) for rouge in (rouge_1, rouge_2, rouge_l)) / 3


def _stemmed_words(text: str) -> list[str]:
    return rouge_words(undecorated(text))


_NORMALISE: dict[str, Callable[[str], str | list[str]]] = {
    "exact": str.strip,
    "alphanumeric": letters_and_digits,
    "squad_em": squad_words,
    "squad_f1": squad_words,
    "rouge_1": _stemmed_words,
    "rouge_2": _stemmed_words,
    "rouge_l": _stemmed_words,
    "rlsd_open_ended": str.strip,
}
_LIKENESS: dict[str, Callable[[Any, Any], float]] = {
    "squad_f1": word_f1,
    "rouge_1": rouge_1,
    "rouge_2": rouge_2,
    "rouge_l": rouge_l,
    "rlsd_open_ended": open_ended,
}
"""The rules that pay for part of an answer."""


class Text:
    """Right if the answer says the same as the gold answer, or as one of several.

    A problem's own `extra` comes before the arguments: "rule", and "references", a list of answers that are accepted
    beside `problem.answer`.

    Args:
        rule: see the top of this file.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> Text().verify(Problem(id="1", prompt="", answer="New York"), "<answer>new-york</answer>").correct
        True
    """

    def __init__(
        self,
        *,
        rule: str = "alphanumeric",
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        if rule not in _NORMALISE:
            raise ValueError(
                f"Text: rule is {rule!r}, but it must be one of {', '.join(_NORMALISE)}. Set one of them."
            )
        self.rule = rule
        self.sources = check_extraction("Text", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against `problem.answer` and the references beside it."""
        rule = self._rule(problem)
        normalise = _NORMALISE[rule]
        accepted = [form for form in map(normalise, _gold_answers(problem)) if form]
        if not accepted:
            return not_judged(
                f"the gold answer {quoted(problem.answer)} is empty under the rule {rule}"
            )
        answer = extract_answer(response, self.which, self.sources)
        if answer is None or len(answer) > MAX_CHARS:
            return right_or_wrong(False, answer, problem.answer)
        got = normalise(answer)
        verdict = right_or_wrong(got in accepted, answer, problem.answer)
        if rule not in _LIKENESS:
            return verdict
        reward = max(_LIKENESS[rule](got, wanted) for wanted in accepted)
        return Verdict(reward=reward, correct=verdict.correct, reason=verdict.reason)

    def verify_quickly(self, problem: Problem, response: str) -> Verdict | None:
        """Judge `response` unless its rule is one of ROUGE's, whose time grows with the product of the lengths."""
        rule = self._rule(problem)
        if rule == "rlsd_open_ended":
            is_linear = max(map(len, _gold_answers(problem))) <= _SHORT_CHARS
        else:
            is_linear = not rule.startswith("rouge")
        return self.verify(problem, response) if is_linear else None

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the answer."""
        return extract_answer(response, self.which, self.sources)

    def _rule(self, problem: Problem) -> str:
        rule = problem.extra.get("rule", self.rule)
        if not isinstance(rule, str) or rule not in _NORMALISE:
            raise ValueError(
                f"{problem.place}: extra.rule is {rule!r}, but Text knows {', '.join(_NORMALISE)}. Mend it there."
            )
        return rule


def _gold_answers(problem: Problem) -> list[str]:
    """Return every answer that is accepted."""
    references = problem.extra.get("references", [])
    if not isinstance(references, list | tuple) or not all(isinstance(r, str) for r in references):
        raise ValueError(
            f"{problem.place}: extra.references is {references!r}, but it must be a list of texts. Mend it there."
        )
    return [problem.answer, *references]
