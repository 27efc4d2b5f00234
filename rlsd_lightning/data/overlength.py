"""What becomes of completions that are cut off at the limit, or come close to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rlsd_lightning.types import Completion, Verdict

OnTruncated = Literal["keep", "mask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlength:
    """The rule of a run.

    RLSD's released code (arXiv:2604.03128) keeps cut-off completions in the loss. Masking them and the soft penalty are
    those of DAPO (arXiv:2503.14476).
    """

    on_truncated: OnTruncated = "keep"
    """"mask": a completion without an end token stays in the group's statistics and leaves the loss."""
    penalty_tokens: int = 0
    """Over this many tokens before the limit the reward falls linearly; 0 = no penalty."""
    penalty_weight: float = 1.0
    """By how much it falls at the limit; 0.1 in RLSD's released code."""
    max_completion_tokens: int = 0
    """The limit that completions are cut at."""

    def __post_init__(self) -> None:
        if self.on_truncated not in get_args(OnTruncated):
            raise ValueError(
                f"rollout.on_truncated is {self.on_truncated!r}. Needed: keep or mask. Set one of them."
            )
        if not 0 <= self.penalty_tokens <= self.max_completion_tokens:
            raise ValueError(
                f"rollout.length_penalty_tokens is {self.penalty_tokens}. Needed: between 0 (no penalty) and "
                f"rollout.sampling.max_completion_tokens, {self.max_completion_tokens}. Correct it."
            )

        if self.penalty_weight <= 0:
            raise ValueError(
                f"rollout.length_penalty_weight is {self.penalty_weight}. Needed: above 0. Correct it, or set "
                "rollout.length_penalty_tokens to 0 for no penalty."
            )

    def masks(self, completion: Completion) -> bool:
        """Say whether a completion leaves the loss."""
        return self.on_truncated == "mask" and completion.finish_reason == "length"

    def penalised(self, verdict: Verdict, completion: Completion) -> Verdict:
        """Return the verdict with its reward lowered for length, and the penalty among its parts.

        penalty = clip((limit - penalty_tokens - length) / penalty_tokens, -1, 0)   -- DAPO, arXiv:2503.14476
        reward' = reward + penalty_weight * penalty

        Example:
            >>> rule = Overlength(penalty_tokens=4, max_completion_tokens=10)
            >>> long = Completion(token_ids=[0] * 7, logprobs=[0.0] * 7, text="", finish_reason="stop")
            >>> rule.penalised(Verdict(reward=1.0, correct=True), long).reward
            0.75
        """
        if not self.penalty_tokens or not verdict.valid:
            return verdict
        free = self.max_completion_tokens - self.penalty_tokens
        penalty = min(0.0, max(-1.0, (free - len(completion.token_ids)) / self.penalty_tokens))
        parts = verdict.parts | {"length_penalty": penalty}
        return replace(verdict, reward=verdict.reward + self.penalty_weight * penalty, parts=parts)
