"""Text read off a picture, paid by how near it comes, under one of three rules.

    wer_similarity   1 - word edits / words of the gold answer, not below 0 (RLSD's released code, for OCR)
    anls             1 - character edits / length of the longer text, but 0 if below a threshold (DocVQA,
                     arXiv:2007.00398; at the threshold itself it counts, as in the benchmark's evaluators)
    edit_similarity  the same without a threshold

wer_similarity and anls see neither letter case nor how many blanks stand between words; edit_similarity sees both.
Punctuation counts everywhere: it is on the picture. But a gold answer without any letter or digit is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlsd_lightning.answers.edits import edit_distance
from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.verdicts import not_judged, quoted, right_or_wrong

MAX_CHARS = 20_000
"""A longer answer is wrong unread; a longer gold answer is not judged."""


def wer_similarity(got: str, wanted: str) -> float:
    """Return 1 - the word error rate, not below 0.

    Args:
        got: the answer.
        wanted: the gold answer; not blank.

    Example:
        >>> wer_similarity("the red cat", "the red fat cat")
        0.75
    """
    words = wanted.split()
    return max(0.0, 1 - edit_distance(got.split(), words) / len(words))


def edit_similarity(got: str, wanted: str) -> float:
    """Return 1 - the edits between two texts / the length of the longer one.

    Args:
        got: the answer.
        wanted: the gold answer; not blank.

    Example:
        >>> edit_similarity("12346", "12345")
        0.8
    """
    return 1 - edit_distance(got, wanted) / max(len(got), len(wanted))


_RULES: dict[str, Callable[[str, str], float]] = {
    "wer_similarity": wer_similarity,
    "anls": edit_similarity,
    "edit_similarity": edit_similarity,
}


class Ocr:
    """Pays an answer by its likeness to the gold answer; correct if the likeness is 1.

    A problem's own `extra` comes before the arguments: "metric", "threshold", "case_sensitive", and "references", a
    list of gold answers of which the likest counts; they stand in the place of `problem.answer`.

    Args:
        metric: wer_similarity, anls or edit_similarity; see the top of this file.
        threshold: under anls, less likeness than this is none.
        case_sensitive: whether letter case counts; if not given, only under edit_similarity.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", answer="Hello big World")
        >>> round(Ocr().verify(problem, "<answer>hello world</answer>").reward, 3)
        0.667
    """

    def __init__(
        self,
        *,
        metric: str = "wer_similarity",
        threshold: float = 0.5,
        case_sensitive: bool | None = None,
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        fault = _fault(metric, threshold, case_sensitive)
        if fault:
            raise ValueError(f"Ocr: {fault}. Mend it.")
        self.metric = metric
        self.threshold = threshold
        self.case_sensitive = case_sensitive
        self.sources = check_extraction("Ocr", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against `problem.answer`, or the references in its place."""
        metric, threshold, case_sensitive = self._rules(problem)
        gold = [text for text in _gold_answers(problem) if _says_something(text)]
        if not gold:
            return not_judged(f"the gold answer {quoted(problem.answer)} is empty or too long")
        answer = extract_answer(response, self.which, self.sources)
        if not answer or len(answer) > MAX_CHARS:
            return right_or_wrong(False, answer, problem.answer)
        got = _seen(answer, metric, case_sensitive)
        likeness = [_RULES[metric](got, _seen(text, metric, case_sensitive)) for text in gold]
        reward = max(likeness)
        if metric == "anls" and reward < threshold:
            reward = 0.0
        wanted = quoted(gold[likeness.index(max(likeness))])
        reason = f"{metric} {reward:.3f}: got {quoted(answer)}, wanted {wanted}"
        return Verdict(reward=reward, correct=reward == 1, reason=reason)

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the answer."""
        return extract_answer(response, self.which, self.sources)

    def _rules(self, problem: Problem) -> tuple[str, float, bool]:
        """Return metric, threshold and whether case counts for this problem."""
        extra = problem.extra
        metric = extra.get("metric", self.metric)
        threshold = extra.get("threshold", self.threshold)
        case_sensitive = extra.get("case_sensitive", self.case_sensitive)
        fault = _fault(metric, threshold, case_sensitive)
        if fault:
            raise ValueError(f"{problem.place}: extra.{fault}. Mend it in the data set.")
        if case_sensitive is None:
            case_sensitive = metric == "edit_similarity"
        return metric, threshold, case_sensitive


def _fault(metric: object, threshold: object, case_sensitive: object) -> str:
    """Return what is wrong with the three settings; nothing if they make sense."""
    if not isinstance(metric, str) or metric not in _RULES:
        return f"metric is {metric!r}, but it must be one of {', '.join(_RULES)}"
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, int | float)
        or not 0 <= threshold <= 1
    ):
        return f"threshold is {threshold!r}, but it must be a number from 0 to 1"
    if not isinstance(case_sensitive, bool | None):
        return f"case_sensitive is {case_sensitive!r}, but it must be true or false"
    return ""


def _gold_answers(problem: Problem) -> Sequence[str]:
    """Return every answer that is accepted."""
    references = problem.extra.get("references", [problem.answer])
    if (
        not isinstance(references, list | tuple)
        or not references
        or not all(isinstance(text, str) for text in references)
    ):
        raise ValueError(
            f"{problem.place}: extra.references is {references!r}, but it must be a list of texts. Mend it there."
        )
    return references


def _says_something(text: str) -> bool:
    return len(text) <= MAX_CHARS and any(map(str.isalnum, undecorated(text)))


def _seen(text: str, metric: str, case_sensitive: bool) -> str:
    """Return what a metric sees of a text."""
    text = text.strip() if case_sensitive else text.strip().lower()
    return text if metric == "edit_similarity" else " ".join(text.split())
