"""RLSD, arXiv:2604.03128: the verdict decides the direction of every token's update, the evidence only its size.

The evidence is how much more likely a token becomes once the privileged reference is read. Its weight is above 0 and carries
no gradient, so the policy is never pulled towards what only the reference could know.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean
from rlsd_lightning.types import CreditNeeds

Evidence = Literal["gain", "contrast"]

_MAX_EXPONENT = 20.0
"""In nats; e^20 is far outside any clip range, and sums of it stay finite in float32."""


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
    return _unclipped_weights(gain, advantages).clamp(1 - clip_range, 1 + clip_range)


def _unclipped_weights(gain: Tensor, advantages: Tensor) -> Tensor:
    """Return exp(sign(A) * gain), its exponent bounded before exp so that no gain overflows. [B, T]."""
    sign = advantages.detach().sign()[:, None]
    exponent = torch.where(sign == 0, 0.0, sign * gain.detach())
    return exponent.clamp(-_MAX_EXPONENT, _MAX_EXPONENT).exp()


def rlsd_credit(
    advantages: Tensor,
    policy_logprobs: Tensor,
    teacher_logprobs: Tensor,
    completion_mask: Tensor,
    lambda_: float,
    clip_range: float,
    negative_only: bool = False,
    span_mask: Tensor | None = None,
    mean_one: bool = False,
) -> Tensor:
    """Spread each completion's advantage over its tokens by their evidence.

    A_t = A * r_t, r_t = (1 - lambda) + lambda * w_t, w_t clipped before it is mixed   -- RLSD, arXiv:2604.03128

    Args:
        advantages: A, one per completion. [B]
        policy_logprobs: log P_S(y_t | x, y_<t). [B, T]
        teacher_logprobs: log P_T(y_t | x, r, y_<t); anything where A is 0 or the mask is False. [B, T]
        completion_mask: True = the token counts. bool [B, T]
        lambda_: how much the evidence counts, in [0, 1]. 0 gives plain GRPO, bit for bit.
        clip_range: half-width of the weights' band around 1, in [0, 1). 0 gives plain GRPO, too.
        negative_only: weigh only completions with A < 0.
        span_mask: True = the token is weighed; None weighs all. bool [B, T]
        mean_one: divide the weights by their mean over the weighed tokens of the completion, so that clipping moves
            credit between tokens and neither adds nor takes any.

    Returns:
        Per-token advantages without gradient; exactly 0 where completion_mask is False. [B, T]

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> rlsd_credit(torch.tensor([2.0]), torch.tensor([[-1.0, -1.0]]), torch.tensor([[-0.9, -9.0]]),
        ...             torch.tensor([[True, True]]), lambda_=0.5, clip_range=0.2)
        tensor([[2.1052, 1.8000]])
    """
    _check_shapes(advantages, policy_logprobs, teacher_logprobs, completion_mask)
    advantages = advantages.detach()
    weighed = _weighed(advantages, completion_mask, negative_only, span_mask)
    # Selected, not multiplied: a NaN of padding, or of a teacher that was not asked, times 0 would stay NaN.
    gain = torch.where(weighed, teacher_logprobs - policy_logprobs, 0.0)
    if lambda_ == 0:
        gain = torch.zeros_like(gain)
    weights = evidence_weights(gain, advantages, clip_range)
    if mean_one:
        weights = _mean_one(weights, weighed)
    mixed = (1 - lambda_) + lambda_ * weights
    return torch.where(completion_mask, advantages[:, None] * mixed, 0.0)


def _weighed(
    advantages: Tensor, completion_mask: Tensor, negative_only: bool, span_mask: Tensor | None
) -> Tensor:
    """Which tokens get a weight of their own; see rlsd_credit. bool [B, T]."""
    judged = advantages < 0 if negative_only else advantages != 0
    weighed = completion_mask & judged[:, None]
    return weighed if span_mask is None else weighed & span_mask


def _mean_one(weights: Tensor, weighed: Tensor) -> Tensor:
    """Scale each completion's weights to a mean of 1 over the weighed tokens; others keep theirs. [B, T]."""
    count = weighed.sum(1, keepdim=True).clamp(min=1)
    mean = torch.where(weighed, weights, 0.0).sum(1, keepdim=True) / count
    return torch.where(weighed, weights / mean, weights)


def _check_shapes(advantages: Tensor, *others: Tensor) -> None:
    shapes = {tuple(other.shape) for other in others}
    if len(shapes) > 1 or advantages.dim() != 1 or others[0].shape[:1] != advantages.shape:
        raise ValueError(
            f"rlsd_credit: advantages has shape {list(advantages.shape)}, policy_logprobs, teacher_logprobs and "
            f"completion_mask {[list(other.shape) for other in others]}, need [B] and three times [B, T]. One "
            "advantage per completion, one log-prob per token."
        )


class RLSDCredit:
    """Assigns credit by RLSD; `lambda_` is 0 (plain GRPO) until the LambdaDecay callback sets it.

    The gain is taken once per rollout: a step has exactly one optimizer step, so the policy of the update is the one
    that sampled, and RLSD's released code (current forward) and ms-swift's (start of the rollout) agree.

    Args:
        clip_range: half-width of the weights' band around 1, in [0, 1); RLSD's launch script: 0.2.
        negative_only: weigh only completions with a negative advantage.
        thought_only: weigh only tokens inside <thought>...</thought>; all others keep the advantage.
        mean_one: give each completion's weights a mean of 1; see rlsd_credit.
        evidence: "gain", what the reference adds to the bare problem, or "contrast", what the right reference adds to
            another problem's: a token that any reference makes likely, such as an appeal to it, then weighs 1.

    Attributes:
        clipped: after a call, True = the token's weight was held at the clip. bool [B, T]
    """

    def __init__(
        self,
        clip_range: float = 0.2,
        negative_only: bool = False,
        thought_only: bool = False,
        mean_one: bool = False,
        evidence: Evidence = "gain",
    ) -> None:
        if not 0 <= clip_range < 1:
            raise ValueError(
                f"credit.clip_range is {clip_range}, needs a value in [0, 1): at 1 a weight could be 0 and the "
                "verdict would no longer reach every token. RLSD's launch script: 0.2."
            )
        if evidence not in get_args(Evidence):
            raise ValueError(
                f"credit.evidence is {evidence!r}, needs one of {', '.join(get_args(Evidence))}. Set one of them."
            )
        self.clip_range = clip_range
        self.negative_only = negative_only
        self.mean_one = mean_one
        self.needs = CreditNeeds(contrast=evidence == "contrast", spans=thought_only)
        self.lambda_ = 0.0
        self.clipped: Tensor | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher could change any credit at the present lambda."""
        return self.lambda_ > 0 and self.clip_range > 0

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
        contrast_logprobs: Tensor | None = None,
        span_mask: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """See CreditAssigner and CreditNeeds."""
        if teacher_logprobs is None and self.needs_teacher:
            raise ValueError(
                f"credit: teacher_logprobs is None at lambda {self.lambda_}, needs [B, T]. Score the completions "
                "under the teacher whenever needs_teacher is true, or set callbacks.lambda_decay.peak=0."
            )
        asked = teacher_logprobs is not None
        teacher = teacher_logprobs if asked else policy_logprobs
        before = policy_logprobs if contrast_logprobs is None else contrast_logprobs
        credit = rlsd_credit(
            advantages,
            before,
            teacher,
            completion_mask,
            self.lambda_,
            self.clip_range,
            self.negative_only,
            span_mask,
            self.mean_one,
        )
        gain = (teacher - before).detach()
        judged = completion_mask & (advantages != 0)[:, None]
        weights = _unclipped_weights(gain, advantages)
        clipped = (weights - 1).abs() > self.clip_range
        weighed = _weighed(advantages, completion_mask, self.negative_only, span_mask)
        self.clipped = weighed & clipped & (asked and self.lambda_ > 0)
        return credit, {
            **_gain_metrics(gain, weights, clipped, judged & asked),
            **_credit_metrics(credit, advantages, completion_mask),
            "credit/lambda": Mean(self.lambda_, 1),
        }


def _gain_metrics(
    gain: Tensor, weights: Tensor, clipped: Tensor, scored: Tensor
) -> dict[str, Mean]:
    """Describe the evidence of the tokens that the teacher scored; counts are 0 where it was not asked."""
    return {
        "credit/gain_mean": masked_mean(gain, scored),
        "credit/weight_mean": masked_mean(weights, scored),
        "credit/clipped_fraction": masked_mean(clipped.float(), scored),
    }


def _credit_metrics(credit: Tensor, advantages: Tensor, mask: Tensor) -> dict[str, Mean]:
    """Describe the credit; the mean of r_t = A_t / A apart by the sign of A, as clipping biases the two apart."""
    positive, negative = (advantages > 0)[:, None], (advantages < 0)[:, None]
    ratio = credit / advantages.detach()[:, None]
    return {
        "credit/weight_mean_positive": masked_mean(ratio, mask & positive),
        "credit/weight_mean_negative": masked_mean(ratio, mask & negative),
        "credit/abs_mean": masked_mean(credit.abs(), mask),
    }
