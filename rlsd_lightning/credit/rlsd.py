"""RLSD, arXiv:2604.03128: the verdict gives the direction of every token's update, the evidence only its size."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean


def evidence_weights(gain: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Weigh each token by how much the privileged context agrees with the verdict on its completion.

    w_t = clip(exp(sign(A) * gain_t), 1 - clip_range, 1 + clip_range)   -- RLSD, arXiv:2604.03128, evidence weight

    Args:
        gain: privileged information gain per token, in nats. [B, T]
        advantages: one per completion; only the sign is used. [B]
        clip_range: half-width of the band around 1, in [0, 1). 0 gives plain GRPO.

    Returns:
        Weights without gradient; exactly 1 where the advantage is 0. [B, T]

    Example:
        >>> evidence_weights(torch.tensor([[0.1, -0.9]]), torch.tensor([-1.0]), clip_range=0.2)
        tensor([[0.9048, 1.2000]])
    """
    return unclipped_weights(gain, advantages).clamp(1.0 - clip_range, 1.0 + clip_range)


def unclipped_weights(gain: Tensor, advantages: Tensor) -> Tensor:
    """Return exp(sign(A) * gain), its exponent bounded so that no gain can overflow. [B, T]."""
    return (advantages.sign().unsqueeze(-1) * gain.detach()).clamp(-20.0, 20.0).exp()


def rlsd_credit(
    advantages: Tensor,
    policy_logprobs: Tensor,
    teacher_logprobs: Tensor,
    completion_mask: Tensor,
    lambda_: float,
    clip_range: float,
    negative_only: bool = False,
    span_mask: Tensor | None = None,
) -> Tensor:
    """Spread each completion's advantage over its tokens by their evidence.

    A_t = A * ((1 - lambda) + lambda * w_t), w_t the clipped evidence weight   -- RLSD, arXiv:2604.03128

    Args:
        advantages: one per completion. [B]
        policy_logprobs: log P_S(y_t | x, y_<t). [B, T]
        teacher_logprobs: log P_T(y_t | x, r, y_<t). [B, T]
        completion_mask: True = the token counts. bool [B, T]
        lambda_: how much the evidence counts, in [0, 1]. 0 gives plain GRPO, bit for bit.
        clip_range: see evidence_weights.
        negative_only: weigh only completions with a negative advantage.
        span_mask: weigh only these tokens; None weighs all. bool [B, T]

    Returns:
        Per-token advantages without gradient; exactly 0 where the mask is False. [B, T]

    Example:
        >>> rlsd_credit(torch.tensor([2.0]), torch.tensor([[-1.0, -1.0]]), torch.tensor([[-0.9, -9.0]]),
        ...             torch.tensor([[True, True]]), lambda_=0.5, clip_range=0.2)
        tensor([[2.1052, 1.8000]])
    """
    weighed = completion_mask & (advantages != 0).unsqueeze(-1)
    if negative_only:
        weighed = weighed & (advantages < 0).unsqueeze(-1)
    if span_mask is not None:
        weighed = weighed & span_mask
    gain = torch.where(weighed, teacher_logprobs - policy_logprobs, 0.0).detach()
    mixed = (1.0 - lambda_) + lambda_ * evidence_weights(gain, advantages, clip_range)
    factor = torch.where(weighed, mixed, 1.0) if lambda_ else torch.ones_like(gain)
    credit = advantages.detach().unsqueeze(-1) * factor
    return torch.where(completion_mask, credit, 0.0)


class RLSDCredit:
    """Assigns credit by RLSD; `lambda_` is set by the LambdaDecay callback before each step.

    Args:
        clip_range: see evidence_weights; RLSD's launch script: 0.2.
        negative_only: see rlsd_credit.
    """

    def __init__(self, clip_range: float = 0.2, negative_only: bool = False) -> None:
        if not 0 <= clip_range < 1:
            raise ValueError(
                f"credit.clip_range is {clip_range}; needed is a value in [0, 1), so that every weight stays above 0 "
                "and the verdict decides the direction. RLSD's launch script: 0.2."
            )
        self.clip_range = clip_range
        self.negative_only = negative_only
        self.lambda_ = 0.0

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher could change any credit now."""
        return self.lambda_ > 0 and self.clip_range > 0

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """See CreditAssigner."""
        if teacher_logprobs is None:
            if self.needs_teacher:
                raise ValueError(
                    "credit=rlsd has lambda above 0 and needs teacher_logprobs; got None."
                )
            teacher_logprobs = policy_logprobs.detach()
        credit = rlsd_credit(
            advantages,
            policy_logprobs,
            teacher_logprobs,
            completion_mask,
            self.lambda_,
            self.clip_range,
            self.negative_only,
        )
        gain = (teacher_logprobs - policy_logprobs).detach()
        return credit, self._metrics(advantages, gain, credit, completion_mask)

    def _metrics(
        self, advantages: Tensor, gain: Tensor, credit: Tensor, mask: Tensor
    ) -> dict[str, Mean]:
        sign = advantages.sign().unsqueeze(-1)
        asked = self.needs_teacher
        weighed = mask & (sign != 0) & asked
        weights = unclipped_weights(torch.where(weighed, gain, 0.0), advantages)
        factor = torch.where(sign != 0, credit / advantages.unsqueeze(-1), 1.0)
        outside = (weights - 1.0).abs() > self.clip_range
        return {
            "credit/gain_mean": masked_mean(gain, weighed),
            "credit/weight_mean": masked_mean(weights, weighed),
            "credit/weight_mean_positive": masked_mean(factor, weighed & (sign > 0)),
            "credit/weight_mean_negative": masked_mean(factor, weighed & (sign < 0)),
            "credit/clipped_fraction": masked_mean(outside.double(), weighed),
            "credit/abs_mean": masked_mean(credit.abs(), mask),
            "credit/lambda": Mean(self.lambda_, 1),
        }
