"""Which of two responses is the better one, or that neither is: the labels of critic data such as LLaVA-Critic's.

RLSD's released code (arXiv:2604.03128; its types llava and critic) takes the first label whose letters occur anywhere, so
that "properties" is a tie. Here labels are words, and what names two of them names none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.verdicts import not_judged, right_or_wrong

MAX_CHARS = 500
"""A longer answer is an essay, not a label."""
Label = Literal["first", "second", "tie"]
_ALONE: dict[str, Label] = {"1": "first", "a": "first", "2": "second", "b": "second"}
_SAYS: dict[Label, re.Pattern[str]] = {
    "first": re.compile(r"\bresponse (?:1|a)\b|\bfirst\b", re.ASCII),
    "second": re.compile(r"\bresponse (?:2|b)\b|\bsecond\b", re.ASCII),
    "tie": re.compile(r"\b(?:tie|equal|equally|both)\b", re.ASCII),
}


def read_preference(answer: str) -> Label | None:
    """Return which response an answer prefers; None where it says nothing, or more than one thing.

    Args:
        answer: what stands in the answer tag.

    Example:
        >>> [read_preference(text) for text in ["1", "Response B", "Two responses are equally good.", "first"]]
        ['first', 'second', 'tie', 'first']
        >>> [read_preference(text) for text in ["", "Response 1 or Response 2", "it has good properties"]]
        [None, None, None]
    """
    if len(answer) > MAX_CHARS:
        return None
    said = undecorated(answer).strip("()[]").lower()
    if said in _ALONE:
        return _ALONE[said]
    found = [label for label, pattern in _SAYS.items() if pattern.search(said)]
    return found[0] if len(found) == 1 else None


class Preference:
    """Right if the answer prefers the response that the gold answer prefers, or calls it a tie as that does.

    Args:
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> critic = Problem(id="1", prompt="", answer="Response 2")
        >>> Preference().verify(critic, "<answer>B</answer>").correct
        True
    """

    def __init__(
        self, *, sources: Sequence[str] = ("answer", "boxed", "response"), which: str = "last"
    ) -> None:
        self.sources = check_extraction("Preference", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the label in `problem.answer`."""
        wanted = read_preference(problem.answer)
        if wanted is None:
            return not_judged("the gold answer prefers neither response and names no tie")
        answer = extract_answer(response, self.which, self.sources)
        correct = answer is not None and read_preference(answer) == wanted
        return right_or_wrong(correct, answer, problem.answer)

    verify_quickly = verify
