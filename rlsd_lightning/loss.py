"""The clipped policy-gradient loss on per-token credit.

Losses are summed over the micro-batch and divided by a count of the whole optimizer step, so that neither the cut
into micro-batches and ranks nor padding nor packing changes the gradient. No KL and no entropy term.
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean

log = logging.getLogger(__name__)

Unit = Literal["token", "sequence"]
Kind = Literal["ppo", "cispo"]

_MAX_LOG_RATIO = 20.0
"""Keeps exp finite in float32; PPO's clipping ends the gradient long before."""


def clipped_policy_loss(
    policy_logprobs: Tensor,
    rollout_logprobs: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    ratio: Unit = "token",
    kind: Kind = "ppo",
    reduction: Unit = "token",
    denominator: float | None = None,
) -> Tensor:
    """Return the loss whose descent moves the policy along its credit, as far as the clip allows.

    rho_t = exp(log P_S(y_t) - log P_rollout(y_t)), or its geometric mean over the completion (GSPO, arXiv:2507.18071)
    ppo:   max(-rho A, -clip(rho, 1 - low, 1 + high) A), for A < 0 at most -dual_clip A  (arXiv:1912.09729)
    cispo: -sg(clip(rho, 1 - low, 1 + high)) A log P_S                                   (arXiv:2506.13585)

    Args:
        policy_logprobs: log P_S now, with gradient. [B, T]
        rollout_logprobs: log P_S when sampled. [B, T]
        advantages: credit per token, without gradient. [B, T]
        completion_mask: True = the token counts. bool [B, T]
        clip_low: half-width of the ratio's band below 1.
        clip_high: half-width above 1.
        dual_clip: the largest ratio that counts where the credit is negative; None sets no bound. Only for ppo.
        ratio: one per "token", or one per "sequence".
        kind: "ppo" drops the gradient of a clipped token, "cispo" keeps it at the clipped size.
        reduction: mean over each "token", or over the "sequence" means of the completions.
        denominator: tokens (or completions with a loss token) of the whole optimizer step, so that micro-batches
            add up to the batch; None counts these.

    Returns:
        Scalar; 0 where no token counts.

    Raises:
        ValueError: if an option is unknown or the shapes do not fit.

    Example:
        >>> now = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        >>> loss = clipped_policy_loss(now, now.detach(), torch.tensor([[1.0, 3.0]]), torch.tensor([[True, True]]),
        ...                            clip_low=0.2, clip_high=0.28, dual_clip=3.0)
        >>> loss.item()
        -2.0
    """
    _check_options(ratio, kind, reduction)
    _check_shapes(policy_logprobs, rollout_logprobs, advantages, completion_mask)
    rho = _log_ratio(policy_logprobs, rollout_logprobs, completion_mask, ratio).exp()
    banded = rho.clamp(1 - clip_low, 1 + clip_high)
    if kind == "cispo":
        losses = -banded.detach() * advantages * torch.where(completion_mask, policy_logprobs, 0.0)
    else:
        losses = torch.maximum(-rho * advantages, -banded * advantages)
        if dual_clip is not None:
            bounded = torch.minimum(losses, -dual_clip * advantages)
            losses = torch.where(advantages < 0, bounded, losses)
    total, count = _total(losses, completion_mask, reduction)
    return total / (count.clamp(min=1) if denominator is None else denominator)


def _log_ratio(now: Tensor, before: Tensor, mask: Tensor, ratio: Unit) -> Tensor:
    """Return log rho, bounded; 0 where masked. [B, T].

    A sequence's ratio has one value for all its tokens, while each token keeps its own gradient: with credit per
    token, that is what GSPO-token does.
    """
    log_ratio = torch.where(mask, now - before, 0.0)
    if ratio == "sequence":
        mean = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        log_ratio = mean.detach() + torch.where(mask, now - now.detach(), 0.0)
    return log_ratio.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)


def _total(losses: Tensor, mask: Tensor, reduction: Unit) -> tuple[Tensor, Tensor]:
    """Return the sum of the tokens' losses, or of the completions' means, and how many there are."""
    losses, lengths = torch.where(mask, losses, 0.0), mask.sum(1)
    if reduction == "token":
        return losses.sum(), lengths.sum()
    return (losses.sum(1) / lengths.clamp(min=1)).sum(), (lengths > 0).sum()


class PolicyLoss:
    """The loss of one micro-batch as its share of the whole optimizer step's, with its metrics.

    Args:
        clip_low: as in clipped_policy_loss; RLSD's launch script: 0.2.
        clip_high: RLSD's launch script: 0.28.
        dual_clip: RLSD's launch script: 3.0; None for none.
        ratio: as in clipped_policy_loss.
        kind: as in clipped_policy_loss.
        reduction: as in clipped_policy_loss.
    """

    def __init__(
        self,
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        dual_clip: float | None = 3.0,
        ratio: Unit = "token",
        kind: Kind = "ppo",
        reduction: Unit = "token",
    ) -> None:
        _check_options(ratio, kind, reduction)
        _check_bounds(clip_low, clip_high, dual_clip)
        if kind == "cispo" and dual_clip is not None:
            log.warning(
                "loss.dual_clip is %s, which kind=cispo does not use. Set it to null.", dual_clip
            )
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.dual_clip = dual_clip
        self.ratio: Unit = ratio
        self.kind: Kind = kind
        self.reduction: Unit = reduction

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
            policy_logprobs: as in clipped_policy_loss. [B, T]
            rollout_logprobs: as in clipped_policy_loss. [B, T]
            advantages: as in clipped_policy_loss. [B, T]
            completion_mask: as in clipped_policy_loss. bool [B, T]
            num_tokens: loss tokens of the whole step: all micro-batches, all ranks.
            num_completions: completions with a loss token in the whole step.
        """
        # A step without a single loss token has a loss of 0, not 0 / 0.
        denominator = max(1, num_tokens if self.reduction == "token" else num_completions)
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
        # Its total is this micro-batch's sum and its count this micro-batch's: added up, they are the step's loss.
        _, count = _total(policy_logprobs.detach(), completion_mask, self.reduction)
        metrics = self._metrics(policy_logprobs, rollout_logprobs, advantages, completion_mask)
        return loss, {"loss/policy": Mean(loss.detach() * denominator, count)} | metrics

    @torch.no_grad()
    def _metrics(
        self, now: Tensor, before: Tensor, advantages: Tensor, mask: Tensor
    ) -> dict[str, Mean]:
        """Describe how far the policy is from the one that sampled; a fraction counts tokens whose loss is clipped."""
        rho = _log_ratio(now, before, mask, self.ratio).exp()
        return {
            "loss/ratio_mean": masked_mean(rho, mask),
            "loss/clip_high_fraction": _fraction(
                (rho > 1 + self.clip_high) & (advantages > 0), mask
            ),
            "loss/clip_low_fraction": _fraction((rho < 1 - self.clip_low) & (advantages < 0), mask),
            "loss/approx_kl": masked_mean(before - now, mask),
            "loss/sampler_gap": masked_mean((before - now).abs(), mask),
        }


def _fraction(which: Tensor, mask: Tensor) -> Mean:
    return masked_mean(which.float(), mask)


def _check_options(ratio: str, kind: str, reduction: str) -> None:
    known = {"ratio": get_args(Unit), "kind": get_args(Kind), "reduction": get_args(Unit)}
    given = {"ratio": ratio, "kind": kind, "reduction": reduction}
    faults = [
        f"loss.{name} is {given[name]!r}, needs one of {', '.join(options)}"
        for name, options in known.items()
        if given[name] not in options
    ]
    if faults:
        raise ValueError("; ".join(faults) + ". Choose one in conf/loss.")


def _check_bounds(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    faults = []
    if not 0 < clip_low < 1:
        faults.append(f"loss.clip_low is {clip_low}, needs a value in (0, 1)")
    if clip_high <= 0:
        faults.append(f"loss.clip_high is {clip_high}, needs a value above 0")
    if dual_clip is not None and dual_clip <= 1:
        faults.append(f"loss.dual_clip is {dual_clip}, needs a value above 1, or null for none")
    if faults:
        raise ValueError("; ".join(faults) + ". RLSD's launch script: 0.2, 0.28 and 3.0.")


def _check_shapes(policy: Tensor, rollout: Tensor, advantages: Tensor, mask: Tensor) -> None:
    shapes = [list(tensor.shape) for tensor in (policy, rollout, advantages, mask)]
    if policy.dim() != 2 or any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"clipped_policy_loss: policy_logprobs, rollout_logprobs, advantages and completion_mask have the shapes "
            f"{shapes}, need [B, T] all. Spread one advantage per completion with rlsd_lightning.credit first."
        )
