"""The clipped policy-gradient loss on per-token credit.

Losses are summed over the micro-batch and divided by a count of the whole optimizer step, so that neither the cut
into micro-batches and ranks nor padding nor packing changes the gradient. On request the loss corrects for a sampler
that is not quite the trainer, and keeps the policy near an anchor. No entropy term.
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

import torch
from torch import Tensor

from rlsd_lightning.metrics import Maximum, Mean, Metric, masked_mean

log = logging.getLogger(__name__)

Unit = Literal["token", "sequence"]
Kind = Literal["ppo", "cispo"]

_MAX_LOG_RATIO = 20.0
"""Keeps exp finite in float32; PPO's clipping ends the gradient long before."""

_USUAL_IMPORTANCE_CAP = 2.0
"""What loss/importance_capped_fraction counts by where no cap is set."""


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
    importance_cap: float | None = None,
) -> Tensor:
    """Return the loss whose descent moves the policy along its credit, as far as the clip allows.

    rho_t = exp(log P_S(y_t) - log P_rollout(y_t)), or its geometric mean over the completion (GSPO, arXiv:2507.18071)
    ppo:   max(-rho A, -clip(rho, 1 - low, 1 + high) A), for A < 0 at most -dual_clip A  (arXiv:1912.09729)
    cispo: -sg(clip(rho, 1 - low, 1 + high)) A log P_S                                   (arXiv:2506.13585)

    With an importance_cap, rho is taken to the trainer's own log-probs when the step began instead, and each token's
    loss is multiplied by min(importance_weights, cap). There is one optimizer step per rollout, so these log-probs are
    sg(policy_logprobs): rho is 1, and only the cap bounds a token. A sequence ratio is corrected token by token, too.

    Args:
        policy_logprobs: log P_S now, with gradient. [B, T]
        rollout_logprobs: log P_S when sampled. [B, T]
        advantages: credit per token, without gradient. [B, T]
        completion_mask: True = the token counts. bool [B, T]
        clip_low: half-width of the ratio's band below 1; 1 sets no lower bound.
        clip_high: half-width above 1.
        dual_clip: the largest ratio that counts where the credit is negative; None sets no bound. Only for ppo.
        ratio: one per "token", or one per "sequence".
        kind: "ppo" drops the gradient of a clipped token, "cispo" keeps it at the clipped size.
        reduction: mean over each "token", or over the "sequence" means of the completions.
        denominator: tokens (or completions with a loss token) of the whole optimizer step, so that micro-batches
            add up to the batch; None counts these.
        importance_cap: the largest importance weight of a token; None leaves a mismatch of sampler and trainer in rho.

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
    before = rollout_logprobs if importance_cap is None else policy_logprobs.detach()
    rho = _log_ratio(policy_logprobs, before, completion_mask, ratio).exp()
    banded = rho.clamp(1 - clip_low, 1 + clip_high)
    if kind == "cispo":
        losses = -banded.detach() * advantages * torch.where(completion_mask, policy_logprobs, 0.0)
    else:
        losses = torch.maximum(-rho * advantages, -banded * advantages)
        if dual_clip is not None:
            bounded = torch.minimum(losses, -dual_clip * advantages)
            losses = torch.where(advantages < 0, bounded, losses)
    if importance_cap is not None:
        weights = importance_weights(policy_logprobs, rollout_logprobs, completion_mask)
        losses = losses * weights.clamp(max=importance_cap)
    total, count = _total(losses, completion_mask, reduction)
    return total / (count.clamp(min=1) if denominator is None else denominator)


def importance_weights(
    policy_logprobs: Tensor, rollout_logprobs: Tensor, completion_mask: Tensor
) -> Tensor:
    """Return how much likelier each sampled token is to the trainer than it was to the sampler.

    w_t = exp(log P_S(y_t) - log P_rollout(y_t)): 1 for the same weights in the same engine, near 1 in another one.

    Args:
        policy_logprobs: log P_S; no gradient flows into it. [B, T]
        rollout_logprobs: log P_S as the sampler computed it. [B, T]
        completion_mask: True = the token counts. bool [B, T]

    Returns:
        Weights without gradient, not yet truncated; 1 where the mask is False. [B, T]

    Example:
        >>> importance_weights(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -2.1]]), torch.tensor([[True, True]]))
        tensor([[1.0000, 1.1052]])
    """
    return _log_ratio(policy_logprobs.detach(), rollout_logprobs, completion_mask, "token").exp()


def kl_to_anchor(
    policy_logprobs: Tensor, anchor_logprobs: Tensor, completion_mask: Tensor
) -> Tensor:
    """Estimate at each sampled token how far the policy has moved from the anchor, KL(P_S || P_anchor).

    exp(q - p) - (q - p) - 1, p = log P_S(y_t), q = log P_anchor(y_t)   -- GRPO, arXiv:2402.03300, eq. 4

    Never below 0. q - p is cut at 20 nats, beyond which a token gives no gradient.

    Args:
        policy_logprobs: p, with gradient. [B, T]
        anchor_logprobs: q, a constant. [B, T]
        completion_mask: True = the token counts. bool [B, T]

    Returns:
        In nats; 0 where the mask is False. [B, T]

    Example:
        >>> kl_to_anchor(torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -2.0]]), torch.tensor([[True, True]]))
        tensor([[0.0000, 0.3679]])
    """
    gap = torch.where(completion_mask, anchor_logprobs.detach() - policy_logprobs, 0.0)
    gap = gap.clamp(max=_MAX_LOG_RATIO)
    return gap.expm1() - gap


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
        importance_cap: as in clipped_policy_loss; usual: 2.0.
        kl_weight: how much kl_to_anchor adds to the loss, averaged as the policy loss is; 0 needs no anchor.
    """

    def __init__(
        self,
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        dual_clip: float | None = 3.0,
        ratio: Unit = "token",
        kind: Kind = "ppo",
        reduction: Unit = "token",
        importance_cap: float | None = None,
        kl_weight: float = 0.0,
    ) -> None:
        _check_options(ratio, kind, reduction)
        _check_bounds(clip_low, clip_high, dual_clip)
        _check_corrections(importance_cap, kl_weight)
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
        self.importance_cap = importance_cap
        self.kl_weight = kl_weight

    @property
    def needs_anchor(self) -> bool:
        """Whether the loss keeps the policy near an anchor, whose log-probs it must then be given."""
        return self.kl_weight > 0

    def __call__(
        self,
        policy_logprobs: Tensor,
        rollout_logprobs: Tensor,
        advantages: Tensor,
        completion_mask: Tensor,
        num_tokens: int,
        num_completions: int,
        anchor_logprobs: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Metric]]:
        """Return the micro-batch's share of the step's loss, and metrics.

        Args:
            policy_logprobs: as in clipped_policy_loss. [B, T]
            rollout_logprobs: as in clipped_policy_loss. [B, T]
            advantages: as in clipped_policy_loss. [B, T]
            completion_mask: as in clipped_policy_loss. bool [B, T]
            num_tokens: loss tokens of the whole step: all micro-batches, all ranks.
            num_completions: completions with a loss token in the whole step.
            anchor_logprobs: as in kl_to_anchor; None where needs_anchor is False. [B, T]

        Raises:
            ValueError: if the loss needs an anchor and has none.
        """
        if self.needs_anchor and anchor_logprobs is None:
            raise ValueError(
                f"loss.kl_weight is {self.kl_weight} and anchor_logprobs is None, needs [B, T]. Score the completions "
                "under the anchor whenever needs_anchor is true, or set loss.kl_weight=0."
            )
        denominator = self._denominator(num_tokens, num_completions)
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
            self.importance_cap,
        )
        # Its total is this micro-batch's sum and its count this micro-batch's: added up, they are the step's loss.
        _, count = _total(policy_logprobs.detach(), completion_mask, self.reduction)
        metrics: dict[str, Metric] = {"loss/policy": Mean(loss.detach() * denominator, count)}
        if anchor_logprobs is not None:
            kl = kl_to_anchor(policy_logprobs, anchor_logprobs, completion_mask)
            share = self.mean_over_step(kl, completion_mask, num_tokens, num_completions)
            loss = loss + self.kl_weight * share
            metrics["loss/kl"] = Mean(share.detach() * denominator, count)
        logprobs = policy_logprobs, rollout_logprobs
        metrics |= self._clip_metrics(*logprobs, advantages, completion_mask)
        return loss, metrics | self._sampler_metrics(*logprobs, completion_mask)

    def mean_over_step(
        self, values: Tensor, mask: Tensor, num_tokens: int, num_completions: int
    ) -> Tensor:
        """Return the micro-batch's share of the step's mean, taken as that of the loss is.

        Args:
            values: one per token. [B, T]
            mask: True = the token counts. bool [B, T]
            num_tokens: loss tokens of the whole step: all micro-batches, all ranks.
            num_completions: completions with a loss token in the whole step.
        """
        total, _ = _total(values, mask, self.reduction)
        return total / self._denominator(num_tokens, num_completions)

    def _denominator(self, num_tokens: int, num_completions: int) -> int:
        """Return what a sum over the step is divided by; a step without a loss token has a loss of 0, not 0 / 0."""
        return max(1, num_tokens if self.reduction == "token" else num_completions)

    @torch.no_grad()
    def _clip_metrics(
        self, now: Tensor, before: Tensor, advantages: Tensor, mask: Tensor
    ) -> dict[str, Metric]:
        """Describe the ratio of the loss; a fraction counts tokens whose loss is clipped."""
        start = before if self.importance_cap is None else now
        rho = _log_ratio(now, start, mask, self.ratio).exp()
        clipped_high = (rho > 1 + self.clip_high) & (advantages > 0)
        clipped_low = (rho < 1 - self.clip_low) & (advantages < 0)
        return {
            "loss/ratio_mean": masked_mean(rho, mask),
            "loss/clip_high_fraction": masked_mean(clipped_high.float(), mask),
            "loss/clip_low_fraction": masked_mean(clipped_low.float(), mask),
        }

    @torch.no_grad()
    def _sampler_metrics(self, now: Tensor, before: Tensor, mask: Tensor) -> dict[str, Metric]:
        """Describe how far the policy is from the one that sampled, whether that is corrected for or not.

        sampler_kl is w - 1 - log w, which estimates KL(P_rollout || P_S), as the tokens are drawn from P_rollout. The
        importance weights w are those before truncation; without a cap the fraction counts those above the usual 2.
        """
        weights = importance_weights(now, before, mask)
        cap = _USUAL_IMPORTANCE_CAP if self.importance_cap is None else self.importance_cap
        return {
            "loss/approx_kl": masked_mean(before - now, mask),
            "loss/sampler_gap": masked_mean((before - now).abs(), mask),
            "loss/sampler_kl": masked_mean(kl_to_anchor(before, now, mask), mask),
            "loss/importance_mean": masked_mean(weights, mask),
            # The largest of nothing is 0, which no weight undercuts.
            "loss/importance_max": Maximum(torch.nn.functional.pad(weights[mask], (0, 1)).max()),
            "loss/importance_capped_fraction": masked_mean((weights > cap).float(), mask),
        }


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
    if not 0 < clip_low <= 1:
        faults.append(
            f"loss.clip_low is {clip_low}, needs a value in (0, 1], where 1 sets no lower bound"
        )
    if clip_high <= 0:
        faults.append(f"loss.clip_high is {clip_high}, needs a value above 0")
    if dual_clip is not None and dual_clip <= 1:
        faults.append(f"loss.dual_clip is {dual_clip}, needs a value above 1, or null for none")
    if faults:
        raise ValueError("; ".join(faults) + ". RLSD's launch script: 0.2, 0.28 and 3.0.")


def _check_corrections(importance_cap: float | None, kl_weight: float) -> None:
    if importance_cap is not None and importance_cap < 1:
        raise ValueError(
            f"loss.importance_cap is {importance_cap}, needs 1 or more, or null for none: below 1 it would shrink "
            "tokens on which sampler and trainer agree. Usual: 2.0."
        )
    if kl_weight < 0:
        raise ValueError(
            f"loss.kl_weight is {kl_weight}, needs 0 or more: below 0 the policy would be driven from the anchor. "
            "GRPO: 0.04; RLSD's launch script: 0."
        )


def _check_shapes(policy: Tensor, rollout: Tensor, advantages: Tensor, mask: Tensor) -> None:
    shapes = [list(tensor.shape) for tensor in (policy, rollout, advantages, mask)]
    if policy.dim() != 2 or any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"clipped_policy_loss: policy_logprobs, rollout_logprobs, advantages and completion_mask have the shapes "
            f"{shapes}, need [B, T] all. Spread one advantage per completion with rlsd_lightning.credit first."
        )
