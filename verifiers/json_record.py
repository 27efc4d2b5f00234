"""How much of a gold JSON record the answer has: the values, where json_schema looks at the form alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.strict_json import json_answer
from rlsd_lightning.verifiers.verdicts import not_judged, quoted


class JsonRecord:
    """The share of fields that are as in the gold record, `problem.answer`; right if all are and there is no other.

    reward = equal fields / fields that either record has, so that leaving out and making up cost the same. Names may
    stand in any order. A number is equal to the same number, 2 to 2.0; a text or a boolean is no number.

    Args:
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags or code blocks, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", answer='{"item": "lamp", "quantity": 2}')
        >>> JsonRecord().verify(problem, '<answer>{"quantity": 2.0, "item": "lamp"}</answer>').correct
        True
        >>> verdict = JsonRecord().verify(problem, '<answer>{"quantity": "2", "item": "lamp"}</answer>')
        >>> verdict.reward, verdict.reason
        (0.5, "wrong: 1 of 2 fields, not 'quantity'")
    """

    def __init__(
        self,
        *,
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        self.sources = check_extraction("JsonRecord", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Compare the answer in `response` with the gold record, field by field."""
        try:
            gold = _record(problem.answer, self.which)
        except ValueError as error:
            return not_judged(f"the gold answer is no record: {error}")
        answer = extract_answer(response, self.which, self.sources)
        if not answer:
            return _wrong("no answer found")
        try:
            record = _record(answer, self.which)
        except ValueError as error:
            return _wrong(f"got {quoted(answer)}, which is no record: {error}")
        names = [*gold, *(name for name in record if name not in gold)]
        amiss = [name for name in names if not _same_field(name, gold, record)]
        if not amiss:
            return Verdict(reward=1.0, correct=True, reason=f"right: all {len(names)} fields")
        share = (len(names) - len(amiss)) / len(names)
        told = ", ".join(quoted(name) for name in amiss[:5])
        return Verdict(
            reward=share,
            correct=False,
            reason=f"wrong: {len(names) - len(amiss)} of {len(names)} fields, not {told}",
        )

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether every gold answer is a record.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: one is not; the message names the problem.
        """
        for problem in problems:
            try:
                _record(problem.answer, self.which)
            except ValueError as error:
                raise ValueError(
                    f"{problem.place}: the answer is {quoted(problem.answer)}, but it must be a JSON object with a field "
                    f"at least: {error}. Mend it in the data set."
                ) from None


def _record(text: str, which: str) -> Mapping[str, Any]:
    value = json_answer(text.strip(), which)
    if not isinstance(value, Mapping) or not value:
        raise ValueError("it is no object with fields")
    return value


def _same_field(name: str, gold: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    return name in gold and name in record and same_json(gold[name], record[name])


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal.

    Example:
        >>> same_json([1, {"a": None}], [1.0, {"a": None}]), same_json(1, True), same_json("1", 1)
        (True, False, False)
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _wrong(reason: str) -> Verdict:
    return Verdict(reward=0.0, correct=False, reason=reason)
