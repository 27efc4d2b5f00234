"""One number against another, within a tolerance.

Numbers are compared as doubles. NaN and infinity are never right. What is no single numeral ("5 or 6", "1/2") is wrong:
for expressions there is the math verifier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.decoration import undecorated
from rlsd_lightning.verifiers.numerals import Numeral, read_numeral
from rlsd_lightning.verifiers.verdicts import not_judged, right_or_wrong


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a right answer may be off: by rel * size or by abs, whichever is more."""

    rel: float = 0.0
    abs: float = 0.0
    relative_to: str = "larger"
    """The size that rel refers to: the "larger" of both numbers (math.isclose), or the "reference"."""

    def __post_init__(self) -> None:
        for name, value in (("rel", self.rel), ("abs", self.abs)):
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < math.inf
            ):
                raise ValueError(f"its {name} is {value!r}, but it must be a number from 0 on")
        if self.relative_to not in ("larger", "reference"):
            raise ValueError(
                f"relative_to is {self.relative_to!r}, but it must be larger or reference"
            )

    def allows(self, got: float, wanted: float) -> bool:
        """Whether `got` is near enough to `wanted`.

        Example:
            >>> Tolerance(rel=0.05).allows(105, 100), Tolerance(rel=0.05).allows(94.9, 100)
            (True, False)
            >>> Tolerance(rel=0.05, relative_to="reference").allows(105.2, 100)
            False
        """
        if self.relative_to == "larger":
            return math.isclose(got, wanted, rel_tol=self.rel, abs_tol=self.abs)
        return abs(got - wanted) <= max(self.rel * abs(wanted), self.abs)


class Numeric:
    """Right if the answer is one number, near enough to the gold answer.

    A problem's own `extra` comes before the arguments: "tolerance" ({"rel": ..., "abs": ...}), "relative_to", "unit"
    (one or a list), and "mode": "relaxed", which allows words as `words` does, or "rlsd_round2", which rounds to 2
    decimals as `rounded_to` does.

    Percent: 28% is 28, and it is 0.28; but 28, without the sign on either side, is not 0.28.

    Args:
        rel_tol: allowed distance relative to the size of the numbers.
        abs_tol: allowed distance.
        relative_to: what rel_tol refers to: the "larger" number (as math.isclose does) or the "reference" (as
            ChartQA's relaxed accuracy does).
        units: what may stand beside a number; where both sides name a unit, it must be the same.
        words: compare as text, letter case aside, where the gold answer is no number. Otherwise such a problem is
            not judged.
        rounded_to: if given, numbers are right that are equal after rounding to so many decimals, whatever the
            tolerance, and a percent sign or unit is wrong: RLSD's released code, with 2.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> Numeric(abs_tol=0.5).verify(Problem(id="1", prompt="", answer="42"), "<answer>42.4</answer>").correct
        True
    """

    def __init__(
        self,
        *,
        rel_tol: float = 0.0,
        abs_tol: float = 0.0,
        relative_to: str = "larger",
        units: Sequence[str] = (),
        words: bool = False,
        rounded_to: int | None = None,
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        try:
            self.tolerance = Tolerance(rel_tol, abs_tol, relative_to)
        except ValueError as error:
            raise ValueError(f"Numeric: the tolerance makes no sense: {error}. Mend it.") from None
        if isinstance(units, str):
            raise ValueError(
                f"Numeric: units is {units!r}, but it must be a list. Write [{units}]."
            )
        if rounded_to is not None and (isinstance(rounded_to, bool) or rounded_to not in range(16)):
            raise ValueError(
                f"Numeric: rounded_to is {rounded_to!r}, but it must be a number of decimals from 0 to 15, or null. Set 2 "
                f"for RLSD's rule."
            )
        self.units = tuple(units)
        self.words = words
        self.rounded_to = rounded_to
        self.sources = check_extraction("Numeric", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the number in `problem.answer`."""
        tolerance, units, words, decimals = self._rules(problem)
        answer = extract_answer(response, self.which, self.sources)
        if not problem.answer.strip():
            return not_judged("the gold answer is empty")
        wanted = read_numeral(problem.answer, units)
        if wanted is None and not words:
            return not_judged("the gold answer is no number")
        if not answer:
            return right_or_wrong(False, answer, problem.answer)
        if wanted is None:
            correct = undecorated(answer).lower() == undecorated(problem.answer).lower()
        else:
            got = read_numeral(answer, units)
            correct = got is not None and _equal(got, wanted, tolerance, decimals)
        return right_or_wrong(correct, answer, problem.answer)

    verify_quickly = verify

    def _rules(self, problem: Problem) -> tuple[Tolerance, Sequence[str], bool, int | None]:
        """Return tolerance, units, words and decimals for this problem."""
        extra = problem.extra
        mode, unit = extra.get("mode", ""), extra.get("unit", ())
        if mode not in ("", "relaxed", "rlsd_round2"):
            raise ValueError(
                f"{problem.place}: extra.mode is {mode!r}, but Numeric knows relaxed and rlsd_round2. Remove it."
            )
        own = (unit,) if isinstance(unit, str) else unit
        if not isinstance(own, list | tuple) or not all(isinstance(name, str) for name in own):
            raise ValueError(
                f"{problem.place}: extra.unit is {unit!r}, but it must be a text or a list of texts. Mend it there."
            )
        words = self.words or mode == "relaxed"
        decimals = 2 if mode == "rlsd_round2" else self.rounded_to
        return self._tolerance(problem), (*own, *self.units), words, decimals

    def _tolerance(self, problem: Problem) -> Tolerance:
        if "tolerance" not in problem.extra and "relative_to" not in problem.extra:
            return self.tolerance
        given = problem.extra.get("tolerance", {})
        relative_to = problem.extra.get("relative_to", self.tolerance.relative_to)
        try:
            if not isinstance(given, Mapping) or not set(given) <= {"rel", "abs"}:
                raise ValueError("it must be a mapping with rel, abs or both")
            return Tolerance(
                given.get("rel", self.tolerance.rel),
                given.get("abs", self.tolerance.abs),
                relative_to,
            )
        except ValueError as error:
            raise ValueError(
                f"{problem.place}: extra.tolerance is {given!r}, which cannot be used: {error}. "
                f"Mend it in the data set."
            ) from None


def _equal(got: Numeral, wanted: Numeral, tolerance: Tolerance, decimals: int | None) -> bool:
    if decimals is not None:
        is_plain = not any(side.percent or side.unit for side in (got, wanted))
        return is_plain and round(got.value, decimals) == round(wanted.value, decimals)
    if got.unit and wanted.unit and got.unit != wanted.unit:
        return False
    return any(tolerance.allows(*pair) for pair in _readings(got, wanted))


def _readings(got: Numeral, wanted: Numeral) -> Iterator[tuple[float, float]]:
    """Yield the pairs of values that two numerals can mean: where only one is in percent, it may be a fraction."""
    yield got.value, wanted.value
    if got.percent and not wanted.percent:
        yield got.value / 100, wanted.value
    if wanted.percent and not got.percent:
        yield got.value, wanted.value / 100
