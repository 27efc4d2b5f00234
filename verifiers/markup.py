"""SVG or HTML by its likeness to a gold document: the tags that it uses, and its length.

    reward = 0.7 |tags and gold tags| / |gold tags| + 0.3 shorter length / longer length, blanks left out

as in RLSD's released code (arXiv:2604.03128; its types svg-code and html-code). That code takes the blanks out first, so
that "<svg width" becomes a tag "svgwidth"; here tags are read from the document as it stands. The likeness sees neither
attributes nor text nor order: it is a first reward, not a proof that two documents look alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlsd_lightning.answers.extraction import check_extraction, extract_answer, fenced_block
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.verdicts import not_judged, quoted

MAX_CHARS = 200_000
"""A longer document is not read."""
LANGUAGES = ("svg", "html")
_TAG = re.compile(r"<([A-Za-z][\w:.-]*)", re.ASCII)


def tags_of(document: str) -> frozenset[str]:
    """Return the names of the tags that a document opens, in lower case.

    Example:
        >>> sorted(tags_of('<svg width="4"><RECT/><rect/></svg>'))
        ['rect', 'svg']
    """
    return frozenset(name.lower() for name in _TAG.findall(document))


def likeness(document: str, gold: str) -> float:
    """Compare two documents; 1 for equal ones, 0 where one has no tags. See the top of this file.

    Example:
        >>> round(likeness("<svg><g/></svg>", "<svg><g/><rect/></svg>"), 4)
        0.6712
    """
    tags, gold_tags = tags_of(document), tags_of(gold)
    if not tags or not gold_tags:
        return 0.0
    lengths = sorted(len("".join(text.split())) for text in (document, gold))
    shared = len(tags & gold_tags) / len(gold_tags)
    return 0.7 * shared + 0.3 * lengths[0] / lengths[1]


class Markup:
    """Pays a document by its likeness to the gold one.

    Args:
        language: "svg" asks for an <svg> that is closed; "html" for any tag.
        correct_from: the likeness from which a document counts as correct.
        sources: where answers stand; a fenced block in an answer is taken out of its fence.
        which: of several answer tags, the first or the last.

    Example:
        >>> drawing = Problem(id="1", prompt="", answer="<svg><g/></svg>")
        >>> Markup(language="svg").verify(drawing, "<answer><svg><g/></svg></answer>").reward
        1.0
    """

    def __init__(
        self,
        *,
        language: str,
        correct_from: float = 1.0,
        sources: Sequence[str] = ("answer", "response"),
        which: str = "last",
    ) -> None:
        if language not in LANGUAGES:
            raise ValueError(
                f"verifier.language is {language!r}. Needed: one of {', '.join(LANGUAGES)}. Set one of them."
            )
        if not 0 < correct_from <= 1:
            raise ValueError(
                f"verifier.correct_from is {correct_from}. Needed: a likeness above 0 and up to 1. Correct it."
            )
        self.language = language
        self.correct_from = correct_from
        self.sources = check_extraction("Markup", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the document in `problem.answer`."""
        if not tags_of(problem.answer[:MAX_CHARS]):
            return not_judged("the gold answer has no tags")
        answer = extract_answer(response, self.which, self.sources)
        if answer is None or len(answer) > MAX_CHARS:
            return Verdict(reward=0.0, correct=False, reason="no document found")
        document = fenced_block(answer) or answer
        if self.language == "svg" and not _is_closed_svg(document):
            return Verdict(reward=0.0, correct=False, reason=f"no <svg>: got {quoted(document)}")
        reward = min(1.0, likeness(document, problem.answer))
        reason = f"likeness {reward:.3f}: got {quoted(document)}"
        return Verdict(reward=reward, correct=reward >= self.correct_from - 1e-9, reason=reason)

    verify_quickly = verify


def _is_closed_svg(document: str) -> bool:
    lowered = document.lower()
    return "<svg" in lowered and "</svg>" in lowered
