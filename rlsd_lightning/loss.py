"""The clipped policy-gradient loss on per-token credit.

Sums, not means, over the micro-batch, divided by a count of the whole optimizer step: so accumulation, packing and
the number of ranks never change the gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean

Ratio = Literal["token", "sequence"]
Kind = Literal["ppo", "cispo"]
Reduction = Literal["token", "sequence"]


def clipped_policy_loss(
    policy_logprobs: Tensor,
    rollout_logprobs: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    ratio: Ratio = "token",
    kind: Kind = "ppo",
    reduction: Reduction = "token",
    denominator: float | None = None,
) -> Tensor:
    """Return the loss whose gradient moves the policy along its credit.

    ratio_t = exp(log P_S(y_t) - log P_rollout(y_t)), of a sequence its geometric mean (GSPO, arXiv:2507.18071)
    ppo:   -min(ratio * A, clip(ratio, 1 - low, 1 + high) * A), for A < 0 not above -dual_clip * A (arXiv:1912.09729)
    cispo: -sg(clip(ratio)) * A * log P_S (arXiv:2506.13585)

    Args:
        policy_logprobs: now, with gradient. [B, T]
        rollout_logprobs: when sampled. [B, T]
        advantages: per-token credit, without gradient. [B, T]
        completion_mask: True = the token counts. bool [B, T]
        clip_low: half-width of the band below 1.
        clip_high: half-width above 1.
        dual_clip: bound of the ratio for negative credit; None sets none.
        ratio: "token", or "sequence" for one ratio per completion.
        kind: "ppo" or "cispo".
        reduction: "token" averages over tokens, "sequence" over the completions' own means.
        denominator: tokens (or completions) to divide by; None counts this batch's.

    Returns:
        Scalar.

    Example:
        >>> now = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        >>> loss = clipped_policy_loss(now, now.detach(), torch.tensor([[1.0, 3.0]]), torch.tensor([[True, True]]),
        ...                            clip_low=0.2, clip_high=0.28, dual_clip=3.0)
        >>> loss.item()
        -2.0
    """
    log_ratio = _log_ratio(policy_logprobs, rollout_logprobs, completion_mask, ratio)
    if kind == "ppo":
        losses = _ppo(log_ratio, advantages, clip_low, clip_high, dual_clip)
    else:
        weight = log_ratio.exp().clamp(1.0 - clip_low, 1.0 + clip_high).detach()
        losses = -weight * advantages * torch.where(completion_mask, policy_logprobs, 0.0)
    return _reduce(losses, completion_mask, reduction, denominator)


def _log_ratio(now: Tensor, before: Tensor, mask: Tensor, ratio: Ratio) -> Tensor:
    """Return log ratios, bounded so that exp stays finite; 0 where masked. [B, T].

    A sequence's ratio carries the gradient of each of its tokens apart, as GSPO-token does.
    """
    difference = torch.where(mask, now - before, 0.0)
    if ratio == "sequence":
        lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
        mean = difference.sum(dim=1, keepdim=True) / lengths
        difference = mean.detach() + torch.where(mask, now - now.detach(), 0.0)
    return difference.clamp(-20.0, 20.0)


def _ppo(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float, dual_clip: float | None
) -> Tensor:
    ratio = log_ratio.exp()
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - low, 1.0 + high))
    if dual_clip is None:
        return losses
    return torch.where(advantages < 0, torch.minimum(losses, -advantages * dual_clip), losses)


def _reduce(
    losses: Tensor, mask: Tensor, reduction: Reduction, denominator: float | None
) -> Tensor:
    losses = torch.where(mask, losses, 0.0)
    lengths = mask.sum(dim=1)
    if reduction == "sequence":
        total = (losses.sum(dim=1) / lengths.clamp(min=1)).sum()
        count = (lengths > 0).sum()
    else:
        total, count = losses.sum(), lengths.sum()
    return total / (count.clamp(min=1) if denominator is None else denominator)


class PolicyLoss:
    """The loss of one micro-batch as its share of the whole optimizer step's.

    Args:
        clip_low: see clipped_policy_loss; RLSD's launch script: 0.2.
        clip_high: 0.28 there.
        dual_clip: 3.0 there.
        ratio: see clipped_policy_loss.
        kind: see clipped_policy_loss.
        reduction: see clipped_policy_loss.
    """

    def __init__(
        self,
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        dual_clip: float | None = 3.0,
        ratio: Ratio = "token",
        kind: Kind = "ppo",
        reduction: Reduction = "token",
    ) -> None:
        choices = {
            "ratio": ("token", "sequence"),
            "kind": ("ppo", "cispo"),
            "reduction": ("token", "sequence"),
        }
        faults = [
            f"loss.{name} is {value!r}, needs one of {', '.join(choices[name])}"
            for name, value in {"ratio": ratio, "kind": kind, "reduction": reduction}.items()
            if value not in choices[name]
        ]
        if not 0 < clip_low < 1 or clip_high <= 0:
            faults.append(
                f"loss.clip_low is {clip_low} and loss.clip_high {clip_high}, need (0, 1) and above 0"
            )
        if dual_clip is not None and dual_clip <= 1:
            faults.append(f"loss.dual_clip is {dual_clip}, needs to be above 1, or null for none")
        if faults:
            raise ValueError("; ".join(faults) + ".")
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.dual_clip = dual_clip
        self.ratio: Ratio = ratio
        self.kind: Kind = kind
        self.reduction: Reduction = reduction

    def __call__(
        self,
        policy_logprobs: Tensor,
        rollout_logprobs: Tensor,
        advantages: Tensor,
        completion_mask: Tensor,
        num_tokens: int,
        num_completions: int,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """Return the micro-batch's share of the step's loss, and metrics.

        Args:
            policy_logprobs: see clipped_policy_loss. [B, T]
            rollout_logprobs: see clipped_policy_loss. [B, T]
            advantages: see clipped_policy_loss. [B, T]
            completion_mask: see clipped_policy_loss. bool [B, T]
            num_tokens: loss tokens of the whole step, over micro-batches and ranks.
            num_completions: completions with a loss token in the whole step.
        """
        denominator = max(num_tokens if self.reduction == "token" else num_completions, 1)
        loss = clipped_policy_loss(
            policy_logprobs,
            rollout_logprobs,
            advantages,
            completion_mask,
            self.clip_low,
            self.clip_high,
            self.dual_clip,
            self.ratio,
            self.kind,
            self.reduction,
            denominator,
        )
        return loss, self._metrics(
            loss.detach() * denominator,
            policy_logprobs.detach(),
            rollout_logprobs,
            advantages,
            completion_mask,
        )

    def _metrics(
        self, total: Tensor, now: Tensor, before: Tensor, advantages: Tensor, mask: Tensor
    ) -> dict[str, Mean]:
        log_ratio = _log_ratio(now, before, mask, self.ratio)
        ratio = log_ratio.exp()
        above = (ratio > 1.0 + self.clip_high) & (advantages > 0)
        below = (ratio < 1.0 - self.clip_low) & (advantages < 0)
        count = mask.sum() if self.reduction == "token" else mask.any(dim=1).sum()
        return {
            "loss/policy": Mean(total, count),
            "loss/ratio_mean": masked_mean(ratio, mask),
            "loss/clip_high_fraction": masked_mean(above.double(), mask),
            "loss/clip_low_fraction": masked_mean(below.double(), mask),
            "loss/approx_kl": masked_mean(before - now, mask),
            "loss/sampler_gap": masked_mean((before - now).abs(), mask),
        }
