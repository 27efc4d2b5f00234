r"""Whether a response keeps to its form: sections in their order, each between its tags.

RLSD's format reward (its released code, for mathematics) asks of the whole response

    <thought>...</thought>...<answer>...</answer>

with anything for the dots, blanks round "<", ">" and "/" aside. It is written there as a regular expression whose time
grows with the cube of the length; here a scanner reads each character a fixed number of times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlsd_lightning.types import Problem, Verdict

_BRACKETS = re.compile(r"([<>/])")
_TAG_NAME = re.compile(r"\\?[A-Za-z][A-Za-z0-9_-]*")


class AnswerFormat:
    r"""Reward 1 for a response of the right form, whatever it says.

    Args:
        sections: the tags' names in their order. A name with a backslash is a LaTeX command: \boxed stands for
            \boxed{...}.
        once: each tag may stand in the response only once.
        ignore_blanks: blanks round <, > and / do not count, as in RLSD's code: "< thought >" is a tag.
        between: what may stand between two sections: anything, or blanks.
        after: what may stand after the last section: anything, or nothing.

    Example:
        >>> problem = Problem(id="1", prompt="")
        >>> AnswerFormat().verify(problem, "<thought>2+2</thought> So: <answer>4</answer>").reward
        1.0
        >>> AnswerFormat().verify(problem, "<thought>2+2</thought> So: 4").reason
        'not in form: no <answer>'
        >>> AnswerFormat(sections=["think", r"\boxed"], after="anything").verify(problem, r"<think></think>\boxed{4}!").reward
        1.0
    """

    def __init__(
        self,
        *,
        sections: Sequence[str] = ("thought", "answer"),
        once: bool = False,
        ignore_blanks: bool = True,
        between: str = "anything",
        after: str = "nothing",
    ) -> None:
        if isinstance(sections, str) or not sections or not all(map(_TAG_NAME.fullmatch, sections)):
            raise ValueError(
                f"AnswerFormat: sections is {sections!r}, but it must be a list of tag names. Write [thought, answer]."
            )
        if between not in ("anything", "blanks") or after not in ("anything", "nothing"):
            raise ValueError(
                f"AnswerFormat: between is {between!r} and after is {after!r}, but between must be anything or blanks, "
                f"and after anything or nothing. Mend them."
            )
        self.tags = [_tags(name) for name in sections]
        self.once = once
        self.ignore_blanks = ignore_blanks
        self.between = between
        self.after = after

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge the form of `response`; `problem` does not matter."""
        fault = self._fault(without_blanks(response) if self.ignore_blanks else response)
        reason = f"not in form: {fault}" if fault else "in form"
        return Verdict(reward=float(not fault), correct=not fault, reason=reason)

    verify_quickly = verify

    def what_counts(self, problem: Problem, response: str) -> str:
        """Return what is said of the form: there are few verdicts."""
        return self.verify(problem, response).reason

    def _fault(self, text: str) -> str:
        """Return what is wrong with the form; nothing if it is right."""
        if self.once:
            for tag in (tag for pair in self.tags for tag in pair if len(tag) > 1):
                if text.count(tag) > 1:
                    return f"more than one {tag}"
        if not text.startswith(self.tags[0][0]):
            return f"{self.tags[0][0]} is not at the beginning"
        start = 0
        for index, (opening, closing) in enumerate(self.tags):
            start = text.find(opening, start)
            if start < 0:
                return f"no {opening}"
            start = self._end_of_section(text, start + len(opening), index)
            if start < 0:
                return f"no {closing} where {opening} could end"
        return ""

    def _end_of_section(self, text: str, start: int, index: int) -> int:
        """Return where a section ends whose content begins at `start`; -1 where it does not end as it should."""
        closing = self.tags[index][1]
        is_last = index == len(self.tags) - 1
        if is_last and self.after == "nothing":
            return len(text) if text.endswith(closing) else -1
        if is_last or self.between == "anything":
            end = text.find(closing, start)
            return end + len(closing) if end >= 0 else -1
        return _end_before(text, start, closing, self.tags[index + 1][0])


def without_blanks(text: str) -> str:
    r"""Return text without the blanks round <, > and /.

    Example:
        >>> without_blanks("  < thought > a < / thought >\n")
        '<thought>a</thought>'
    """
    pieces = _BRACKETS.split(text)
    last = len(pieces) - 1
    for index in range(0, len(pieces), 2):  # what stands between the brackets
        if index > 0:
            pieces[index] = pieces[index].lstrip()
        if index < last:
            pieces[index] = pieces[index].rstrip()
    return "".join(pieces)


def _tags(name: str) -> tuple[str, str]:
    """Return what opens and what closes a section."""
    return (f"{name}{{", "}") if name.startswith("\\") else (f"<{name}>", f"</{name}>")


def _end_before(text: str, start: int, closing: str, following: str) -> int:
    """Return the end of the first closing tag with nothing but blanks between it and the following tag; or -1."""
    end = text.find(closing, start)
    while end >= 0:
        end += len(closing)
        index = end
        while index < len(text) and text[index].isspace():
            index += 1
        if text.startswith(following, index):
            return end
        end = text.find(closing, end)
    return -1
