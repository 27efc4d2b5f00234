"""Several verifiers as one reward: a sum of named parts.

Correctness stays apart from shaping: it is what one of the parts says, not whether the sum is high.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from rlsd_lightning.interfaces import ChecksProblems, Verifier, verify_quickly, what_counts
from rlsd_lightning.types import Problem, Verdict


class WeightedSum:
    """Rewards are weighted and added; RLSD's code gives 0.9 for the answer and 0.1 for the form.

    A part that could not be judged makes the whole one that could not be judged: a sum with a hole in it would compare
    with no other. The parts' own rewards are in the verdict's `parts`, before weighting.

    Args:
        parts: by name, a mapping with `verifier` and `weight`. The weights are more than 0 and add up to 1, so that
            full marks are 1.
        correct_part: the part that says whether the answer is right; the first one if not given.

    Example:
        >>> from rlsd_lightning.verifiers.answer_format import AnswerFormat
        >>> from rlsd_lightning.verifiers.text import Text
        >>> verifier = WeightedSum(parts={
        ...     "answer": {"verifier": Text(), "weight": 0.9}, "format": {"verifier": AnswerFormat(), "weight": 0.1}})
        >>> verdict = verifier.verify(Problem(id="1", prompt="", answer="4"), "<answer>4</answer>")
        >>> verdict.reward, verdict.correct, verdict.parts
        (0.9, True, {'answer': 1.0, 'format': 0.0})
    """

    def __init__(
        self, *, parts: Mapping[str, Mapping[str, Any]], correct_part: str | None = None
    ) -> None:
        self.verifiers, self.weights = _checked(parts)
        self.correct_part = next(iter(parts)) if correct_part is None else correct_part
        if self.correct_part not in self.verifiers:
            raise ValueError(
                f"WeightedSum: correct_part is {correct_part!r}, but the parts are {', '.join(parts)}. Name one of them."
            )

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` by every part."""
        return self._sum(
            {name: part.verify(problem, response) for name, part in self.verifiers.items()}
        )

    def verify_quickly(self, problem: Problem, response: str) -> Verdict | None:
        """Judge `response` if every part can at once."""
        verdicts: dict[str, Verdict] = {}
        for name, part in self.verifiers.items():
            verdict = verify_quickly(part, problem, response)
            if verdict is None:
                return None
            verdicts[name] = verdict
        return self._sum(verdicts)

    def what_counts(self, problem: Problem, response: str) -> Hashable:
        """Return what counts for the parts, one after the other."""
        return tuple(what_counts(part, problem, response) for part in self.verifiers.values())

    def _sum(self, verdicts: Mapping[str, Verdict]) -> Verdict:
        """Weigh and add the verdicts of the parts."""
        valid = all(verdict.valid for verdict in verdicts.values())
        reward = sum(self.weights[name] * verdict.reward for name, verdict in verdicts.items())
        return Verdict(
            reward=reward if valid else 0.0,
            correct=valid and verdicts[self.correct_part].correct,
            valid=valid,
            parts={name: verdict.reward for name, verdict in verdicts.items()},
            reason="; ".join(f"{name}: {verdict.reason}" for name, verdict in verdicts.items()),
        )

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training what the parts say of every problem.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: a part finds a fault in a problem, or in several.
        """
        checking = [part for part in self.verifiers.values() if isinstance(part, ChecksProblems)]
        kept = list(problems) if checking else []
        for part in checking:
            part.check(kept)


def _checked(
    parts: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Verifier], dict[str, float]]:
    """Return verifiers and weights by name, once they are found to make sense."""
    if not parts:
        raise ValueError("WeightedSum: parts is empty, but there must be one at least. Add one.")
    for name, part in parts.items():
        if set(part) != {"verifier", "weight"} or not isinstance(part["verifier"], Verifier):
            raise ValueError(
                f"WeightedSum: parts.{name} has {', '.join(map(str, part)) or 'nothing'}, but it must have a verifier "
                f"and a weight, and nothing else. Write parts.{name}.verifier and parts.{name}.weight."
            )
    weights = {name: part["weight"] for name, part in parts.items()}
    if not all(_is_weight(weight) for weight in weights.values()) or not math.isclose(
        sum(weights.values()), 1, abs_tol=1e-6
    ):
        raise ValueError(
            f"WeightedSum: the weights are {weights}, but each must be a number above 0, and they must add up to 1. "
            f"Change them, or remove a part."
        )
    return {name: part["verifier"] for name, part in parts.items()}, weights


def _is_weight(weight: Any) -> bool:
    return (
        isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < math.inf
    )
