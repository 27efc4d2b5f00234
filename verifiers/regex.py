"""Whether the whole answer matches the problem's pattern.

Patterns are written for Python's `re` and run under a time limit (rlsd_lightning.verifiers.patterns). They come from the
problem, never from the model; still, what a model writes can make an innocent pattern run for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.patterns import TIME_LIMIT_S, matches_whole, pattern_fault
from rlsd_lightning.verifiers.verdicts import not_judged, quoted, right_or_wrong

MAX_CHARS = 10_000
"""A longer answer is wrong unread."""


class Regex:
    r"""Right if `extra["pattern"]` matches the whole answer, blanks round it taken off. An empty answer is wrong.

    Args:
        time_limit_s: processor time; what takes longer is not judged.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", extra={"pattern": r"\d{4}-\d{2}"})
        >>> [Regex().verify(problem, f"<answer>{date}</answer>").correct for date in ("2024-01", "2024-01-31")]
        [True, False]
    """

    def __init__(
        self,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        if time_limit_s <= 0:
            raise ValueError(
                f"Regex: time_limit_s is {time_limit_s}, but it must be more than 0. Keep the default if in doubt."
            )
        self.time_limit_s = time_limit_s
        self.sources = check_extraction("Regex", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the problem's pattern."""
        pattern = _pattern(problem)
        answer = extract_answer(response, self.which, self.sources)
        if not answer or len(answer) > MAX_CHARS:
            return right_or_wrong(False, answer, pattern)
        try:
            return right_or_wrong(
                matches_whole(pattern, answer, self.time_limit_s), answer, pattern
            )
        except TimeoutError as error:
            return not_judged(f"matching {quoted(answer)} with {quoted(pattern)} {error}")

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the answer."""
        return extract_answer(response, self.which, self.sources)

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether every problem has a pattern that can be used.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: a pattern is missing, or is none; the message names the problem.
        """
        for problem in problems:
            _pattern(problem)


def _pattern(problem: Problem) -> str:
    pattern = problem.extra.get("pattern")
    fault = pattern_fault(pattern) if isinstance(pattern, str) else "it must be a text"
    if fault:
        raise ValueError(
            f"{problem.place}: extra.pattern is {pattern!r}, which is no regular expression: {fault}. Mend it there."
        )
    return pattern
