"""How many responses are right, what reward they earn, and how many leak.

Leakage: a policy trained towards a teacher that saw a reference may come to appeal to a reference nobody gave it
("as the reference says"). That shows in its words, so the share of responses with such words is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import verify_batch

REWARD_UNITS = 2**32
"""Rewards are summed as whole numbers of 1 / REWARD_UNITS: casting a module to bfloat16 casts floating-point states of the
metrics in it, so that their counts would end at 256."""


def tally(verdicts: Sequence[Verdict], responses: Sequence[str], leaks: Sequence[str]) -> Tensor:
    """Count what all scores are made of: responses, judged ones, right ones, reward units, leaking ones.

    Args:
        verdicts: one per response. [B]
        responses: completions' texts. [B]
        leaks: words that give a leak away, in lower case.

    Returns:
        Five sums. int64 [5]

    Example:
        >>> verdicts = [Verdict(1.0, True), Verdict(0.0, False), Verdict(0.0, False, valid=False)]
        >>> tally(verdicts, ["5", "The Reference says 5", ""], ["reference"]).tolist()
        [3, 2, 1, 4294967296, 1]
    """
    judged = [verdict for verdict in verdicts if verdict.valid]
    lower = (response.lower() for response in responses)
    sums = (
        len(verdicts),
        len(judged),
        sum(verdict.correct for verdict in judged),
        round(sum(verdict.reward for verdict in judged) * REWARD_UNITS),
        sum(any(leak in response for leak in leaks) for response in lower),
    )
    return torch.tensor(sums)


def scores(sums: Tensor) -> dict[str, float]:
    """Turn the five sums into scores; accuracy and reward are over the judged responses, NaN if there are none.

    Args:
        sums: as tally counts them. [5]

    Example:
        >>> scores(torch.tensor([4, 2, 1, 0, 1]))["accuracy"]
        0.5
    """
    num_responses, num_judged, num_correct, reward_units, num_leaks = sums.tolist()
    return {
        "accuracy": _ratio(num_correct, num_judged),
        "reward": _ratio(reward_units / REWARD_UNITS, num_judged),
        "invalid_fraction": _ratio(num_responses - num_judged, num_responses),
        "num_responses": float(num_responses),
        "leakage": _ratio(num_leaks, num_responses),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


class Accuracy(Metric):
    """Scores responses by a verifier: accuracy, reward, invalid_fraction, num_responses and, if asked for, leakage.

    A problem may come several times, once per response; all of them are averaged.

    Args:
        verifier: judges.
        leak_pattern: words, or a list of words, that give away that a response appeals to a reference; found
            anywhere, in upper and lower case. None: leakage is not reported.

    Example:
        >>> class SaysYes:
        ...     def verify(self, problem, response):
        ...         return Verdict(reward=float(response == "yes"), correct=response == "yes")
        >>> metric = Accuracy(verifier=SaysYes())
        >>> metric.update([Problem(id="1", prompt="?")] * 2, ["yes", "no"])
        >>> metric.compute()
        {'accuracy': 0.5, 'reward': 0.5, 'invalid_fraction': 0.0, 'num_responses': 2.0}
    """

    full_state_update = False
    higher_is_better = True
    sums: Tensor

    def __init__(
        self, *, verifier: Verifier, leak_pattern: str | Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.verifier = verifier
        self.leaks = _checked_leaks(leak_pattern)
        self.add_state("sums", default=torch.zeros(5, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, problems: list[Problem], responses: list[str]) -> None:
        """Judge and count responses.

        Args:
            problems: one per response. [B]
            responses: completions' texts. [B]
        """
        verdicts = verify_batch(self.verifier, problems, responses)
        self.sums += tally(verdicts, responses, self.leaks).to(self.sums.device)

    def compute(self) -> dict[str, float]:
        """Return the scores over everything counted, on all ranks."""
        found = scores(self.sums)
        if not self.leaks:
            del found["leakage"]
        return found


def _checked_leaks(pattern: str | Sequence[str] | None) -> list[str]:
    """Return the words to look for in lower case."""
    words = [] if pattern is None else [pattern] if isinstance(pattern, str) else list(pattern)
    if (pattern is not None and not words) or not all(isinstance(w, str) and w for w in words):
        raise ValueError(
            f"Accuracy: leak_pattern is {pattern!r}, but it must be words, a list of words, or null. An empty one would "
            f"be found in every response."
        )
    return [word.lower() for word in words]
