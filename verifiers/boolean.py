r"""Yes or no.

An answer says yes or no by itself ("Yes.", "\text{True}", "n", "0"), behind a lead ("The answer is no"), or before an
explanation ("Yes, two of them are red"). What says both ("yes and no"), or hedges, says neither. RLSD's code knows yes,
true and 1 against no, false and 0, only alone, and pays an empty answer where the gold answer is empty.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.verdicts import not_judged, right_or_wrong

MAX_CHARS = 2_000
"""A longer answer is an essay, not a yes or no."""
_YES = ("yes", "true", "1", "y", "t", "yeah", "yep", "correct")
_NO = ("no", "false", "0", "n", "f", "nope", "nay", "incorrect")
_SPELLINGS = dict.fromkeys(_YES, True) | dict.fromkeys(_NO, False)
_LEAD = re.compile(
    r"(?:(?:the|my) )?(?:(?:final|correct) )?(?:answer|statement|claim|it|this|that)(?: is|'s|:| is:)(?:\*\*)? +"
)
_EXPLAINED = re.compile(r"\**(yes|no|true|false)(?:[,.;:!*]+| -+| because| since| as)\s", re.ASCII)
_SAYS = re.compile(
    r"\b(?:yes|true|false|not (?:sure|certain|clear)|unsure|maybe|perhaps|(?P<no>no))\b", re.ASCII
)
_DETERMINES = re.compile(r" (?!and\b|or\b|because\b|since\b|as\b)\w")
"""What follows the no of "there is no dog", which says nothing about the question."""
_JOINS = re.compile(r"\b(?:and|or|nor|but|also|rather|actually)[ ,]+(?:also )?$")


def read_boolean(answer: str) -> bool | None:
    r"""Return whether an answer says yes or no; None where it says neither or both.

    Args:
        answer: what stands in the answer tag.

    Example:
        >>> [read_boolean(text) for text in ["Yes.", r"$\text{TRUE}$", "1", "The answer is yes", "Yes, there is no dog."]]
        [True, True, True, True, True]
        >>> [read_boolean(text) for text in ["no", "**False**", "N", "No: it is red."]]
        [False, False, False, False]
        >>> [read_boolean(text) for text in ["", "yes or no", "I know", "not true", "2", "Yes, or maybe no."]]
        [None, None, None, None, None, None]
    """
    return None if len(answer) > MAX_CHARS else _read(answer)


@functools.lru_cache(maxsize=2048)
def _read(answer: str) -> bool | None:
    said = undecorated(undecorated(answer).rstrip("!")).lower()
    said = undecorated(said[_end_of_lead(said) :])
    if said in _SPELLINGS:
        return _SPELLINGS[said]
    explained = _EXPLAINED.match(said)
    if explained is None:
        return None
    verdict = _SPELLINGS[explained[1]]
    rest = said[explained.end() - 1 :]
    return None if any(_differs(found, verdict) for found in _SAYS.finditer(rest)) else verdict


def _end_of_lead(said: str) -> int:
    lead = _LEAD.match(said)
    return lead.end() if lead else 0


def _differs(found: re.Match[str], verdict: bool) -> bool:
    """Whether a word of the explanation takes back what the answer began with."""
    if found["no"]:
        text = found.string
        joined = _JOINS.search(text, max(0, found.start() - 20), found.start())
        determines = _DETERMINES.match(text, found.end())
        return verdict and (joined is not None or determines is None)
    return _SPELLINGS.get(found[0]) is not verdict


class Boolean:
    """Right if the answer says yes where the gold answer does, and no where it does, however either is spelt.

    A gold answer that is neither is a label of its own ("healthy"), which an answer must give word for word, letter
    case aside.

    Args:
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> Boolean().verify(Problem(id="1", prompt="", answer="Yes"), "<answer>true</answer>").correct
        True
    """

    def __init__(
        self, *, sources: Sequence[str] = ("answer", "boxed", "response"), which: str = "last"
    ) -> None:
        self.sources = check_extraction("Boolean", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the yes, the no or the label in `problem.answer`."""
        label = undecorated(problem.answer).lower()
        if not any(map(str.isalnum, label)):
            return not_judged("the gold answer is empty")
        answer = extract_answer(response, self.which, self.sources)
        if not answer or len(answer) > MAX_CHARS:
            return right_or_wrong(False, answer, problem.answer)
        wanted = read_boolean(problem.answer)
        if wanted is None:
            correct = undecorated(answer).lower() == label
        else:
            correct = read_boolean(answer) is wanted
        return right_or_wrong(correct, answer, problem.answer)

    verify_quickly = verify
