r"""Equal as mathematics, judged by Math-Verify (SymPy behind an ANTLR grammar; model text is never evaluated as Python).

What this file adds to Math-Verify 0.9, which left alone would be wrong or hang:

- The formula is found by rlsd_lightning.verifiers.expressions and handed over in a box. Of bare LaTeX only the last number
  would be compared, so that 2+3i would equal 2-3i.
- Percent signs are read here, as its parser under antlr 4.9.3 (which Hydra pins) cannot: 28% is 28, and it is 0.28; but
  28, without the sign on either side, is not 0.28.
- Two plain numbers are compared here: to six decimals as Math-Verify does, but also to four significant digits.
- SymPy starts afresh for each verdict: what it remembers of one expression was seen to change what it says of another.
- Its timeouts are off, as they need SIGALRM and the main thread. Numbers beyond measure are refused beforehand, and
  a deadline ends the rest. What the deadline ends is not judged.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

import math_verify
import sympy.core.cache
import sympy.core.random

from rlsd_lightning.answers.deadline import within
from rlsd_lightning.answers.extraction import check_extraction, closing_brace, extract_answer
from rlsd_lightning.answers.magnitude import MAX_BITS, bits_bound
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.expressions import Expression, read_expression
from rlsd_lightning.verifiers.numerals import read_numeral
from rlsd_lightning.verifiers.verdicts import not_judged, quoted, right_or_wrong

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off

MAX_ANSWER_CHARS = 4_000
"""A longer answer is wrong unread, whatever formula it ends with."""
MAX_NESTING = 10
"""Brackets within brackets; the parser's time grows steeply with them."""
_LATEX = (math_verify.LatexExtractionConfig(boxed_match_priority=0),)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)


class Math:
    r"""Right if the answer is mathematically equal to the gold answer.

    Args:
        sources: where answers stand; see rlsd_lightning.answers.extraction. The whole response is none of them by
            default, as some number can be found in every response.
        which: of several answer tags, the first or the last.
        max_chars: a longer formula is wrong unread.
        time_limit_s: what takes longer is not judged.

    Example:
        >>> problem = Problem(id="1", prompt="", answer="0.5")
        >>> Math().verify(problem, r"<answer>$\frac{1}{2}$</answer>").correct
        True
    """

    def __init__(
        self,
        *,
        sources: Sequence[str] = ("answer", "boxed"),
        which: str = "last",
        max_chars: int = 512,
        time_limit_s: float = 5.0,
    ) -> None:
        if max_chars < 1 or time_limit_s <= 0:
            raise ValueError(
                f"Math: max_chars is {max_chars} and time_limit_s is {time_limit_s}, but both must be more than 0. "
                f"Keep the defaults if in doubt."
            )
        self.sources = check_extraction("Math", which, sources)
        self.which = which
        self.max_chars = max_chars
        self.time_limit_s = time_limit_s

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the expression in `problem.answer`."""
        answer = self.what_counts(problem, response)
        verdict = self._judge_read(problem, answer)
        return self._work_out(problem, answer) if verdict is None else verdict

    def verify_quickly(self, problem: Problem, response: str) -> Verdict | None:
        """Judge `response` unless something has to be worked out."""
        answer = self.what_counts(problem, response)
        if answer is not None and len(answer) > self.max_chars:
            return None
        return self._judge_read(problem, answer)

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the answer."""
        return extract_answer(response, self.which, self.sources)

    def _judge_read(self, problem: Problem, answer: str | None) -> Verdict | None:
        """Judge an answer as far as reading it will do; None where the formulas differ."""
        gold = problem.answer.strip()
        wanted, got = self._read(gold), self._read(answer or "")
        if not wanted.latex:
            return not_judged(f"the gold answer {quoted(gold)} is empty or too long")
        if not got.latex or got == wanted:
            return right_or_wrong(bool(got.latex), answer, gold)
        correct = equal_numbers(got, wanted)
        return None if correct is None else right_or_wrong(correct, answer, gold)

    def _work_out(self, problem: Problem, answer: str | None) -> Verdict:
        """Judge an answer by what the formulas come to."""
        gold = problem.answer.strip()
        wanted, got = self._read(gold), self._read(answer or "")
        try:
            correct = within(self.time_limit_s, lambda: equal(got, wanted))
        except TimeoutError as error:
            return not_judged(f"comparing {quoted(answer)} with {quoted(gold)} {error}")
        if correct is None:
            return not_judged(
                f"the gold answer {quoted(gold)} is no mathematics that can be worked out"
            )
        return right_or_wrong(correct, answer, gold)

    def _read(self, answer: str) -> Expression:
        """Return what an answer comes down to; nothing if it is too long."""
        if len(answer) > MAX_ANSWER_CHARS:
            return Expression("")
        found = _read(answer)
        return found if len(found.latex) <= self.max_chars else Expression("")


def equal(got: Expression, wanted: Expression) -> bool | None:
    """Whether an answer is equal to the gold answer; None where the gold answer cannot be worked out.

    Args:
        got: the answer.
        wanted: the gold answer.

    Example:
        >>> equal(Expression("2x+x"), Expression("3x")), equal(Expression("28"), Expression("28", percent=True))
        (True, True)
    """
    same = equal_numbers(got, wanted)
    if same is not None:
        return same
    if _decimal_comma(got.latex, wanted.latex):
        return True
    if too_heavy(wanted.latex):
        return None
    sympy.core.cache.clear_cache()
    sympy.core.random.seed(0)
    if all(isinstance(reading, str) for reading in _parse(wanted.latex)):
        return None
    if too_heavy(got.latex):
        return False
    return any(
        math_verify.verify(list(_parse(gold)), list(_parse(answer)), timeout_seconds=None)
        for answer, gold in _readings(got, wanted)
    )


def too_heavy(latex: str) -> bool:
    """Whether an expression is so large or so nested that working it out would take unbounded time.

    Example:
        >>> too_heavy("9^{9^{9}}"), too_heavy("(" * 20 + "1" + ")" * 20), too_heavy("2^{100}")
        (True, True, False)
    """
    depth = deepest = 0
    for character in latex:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest > MAX_NESTING or bits_bound(latex) > MAX_BITS


@functools.lru_cache(maxsize=4096)
def _parse(latex: str) -> tuple[Any, ...]:
    """Return Math-Verify's readings of an expression: a SymPy object, or text where that fails.

    Braces that do not pair up would end the box early and leave a part of the answer in it.
    """
    box = f"\\boxed{{{latex}}}"
    if closing_brace(box, len("\\boxed")) != len(box) - 1:
        return ()
    return tuple(math_verify.parse(box, _LATEX, parsing_timeout=None))


def _readings(got: Expression, wanted: Expression) -> list[tuple[str, str]]:
    """List the pairs of texts that are to be compared: where only one is in percent, it may be a fraction."""
    pairs = [(got.latex, wanted.latex)]
    if got.percent and not wanted.percent:
        pairs.append((f"\\frac{{{got.latex}}}{{100}}", wanted.latex))
    if wanted.percent and not got.percent:
        pairs.append((got.latex, f"\\frac{{{wanted.latex}}}{{100}}"))
    return pairs


_read = functools.lru_cache(maxsize=2048)(read_expression)


def equal_numbers(got: Expression, wanted: Expression) -> bool | None:
    """Whether two plain numbers are equal; None where one side is more than a number.

    Args:
        got: the answer.
        wanted: the gold answer.

    Example:
        >>> equal_numbers(Expression("0.28"), Expression("28", percent=True)), equal_numbers(Expression("x"), Expression("1"))
        (True, None)
    """
    numbers = read_numeral(got.latex), read_numeral(wanted.latex)
    if numbers[0] is None or numbers[1] is None:
        return None
    pairs = [(numbers[0].value, numbers[1].value)]
    if got.percent and not wanted.percent:
        pairs.append((pairs[0][0] / 100, pairs[0][1]))
    if wanted.percent and not got.percent:
        pairs.append((pairs[0][0], pairs[0][1] / 100))
    return any(a == b or abs(a - b) <= min(5e-7, 1e-4 * max(abs(a), abs(b))) for a, b in pairs)


def _decimal_comma(got: str, wanted: str) -> bool:
    """Whether two numbers are the same but for a decimal comma on one side: 2,74 and 2.74."""
    if not (_DECIMAL_COMMA.fullmatch(got) or _DECIMAL_COMMA.fullmatch(wanted)):
        return False
    numbers = read_numeral(got.replace(",", ".")), read_numeral(wanted.replace(",", "."))
    return None not in numbers and numbers[0] == numbers[1]
