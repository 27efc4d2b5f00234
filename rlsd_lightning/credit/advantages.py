"""Group-relative advantages: how much better a completion did than its siblings."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, eps: float = 1e-6, valid: Tensor | None = None) -> Tensor:
    """Standardise rewards within each group.

    A = (R - mean) / (std + eps), std with n - 1   -- GRPO, as RLSD (arXiv:2604.03128) uses it

    A group whose rewards are all equal gets exactly 0, decided on the raw rewards: in float32 the mean of eight
    rewards of 0.9 is off by one unit in the last place, std is as small, and RLSD's released code gives -0.056 each.

    Args:
        rewards: one per completion, a row per group. [P, G]
        eps: added to the standard deviation.
        valid: True = the completion could be judged; the others leave mean and std and get 0. bool [P, G]

    Returns:
        Advantages; 0 in groups with fewer than two valid completions. [P, G]

    Raises:
        ValueError: if rewards is not [P, G], a group has one completion only, or a valid reward is not finite.

    Example:
        >>> group_advantages(torch.tensor([[1.0, 0.0], [0.9, 0.9]]))
        tensor([[ 0.7071, -0.7071],
                [ 0.0000,  0.0000]])
    """
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    _check(rewards, valid)
    count = valid.sum(1, keepdim=True)
    mean = torch.where(valid, rewards, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(valid, rewards - mean, 0.0)
    std = (centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    lowest = torch.where(valid, rewards, torch.inf).amin(1, keepdim=True)
    highest = torch.where(valid, rewards, -torch.inf).amax(1, keepdim=True)
    return torch.where(valid & (lowest < highest), centred / (std + eps), 0.0)


class GroupAdvantages:
    """group_advantages with its settings.

    Args:
        eps: see group_advantages.
    """

    def __init__(self, eps: float = 1e-6) -> None:
        self.eps = eps

    def __call__(self, rewards: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return one advantage per completion. [P, G]."""
        return group_advantages(rewards, self.eps, valid)


def _check(rewards: Tensor, valid: Tensor) -> None:
    if rewards.dim() != 2 or valid.shape != rewards.shape:
        raise ValueError(
            f"group_advantages: rewards has shape {list(rewards.shape)} and valid {list(valid.shape)}, need "
            "[problems, group_size] both. Put each problem's completions in one row."
        )
    if rewards.shape[1] < 2:
        raise ValueError(
            f"group_advantages: group_size is {rewards.shape[1]}, so no completion has a sibling to be compared "
            "with; needs 2 or more. Raise rollout.group_size (RLSD's launch script: 8)."
        )
    if not torch.where(valid, rewards, 0.0).isfinite().all():
        raise ValueError(
            f"group_advantages: rewards are {rewards.tolist()}, need finite numbers. A verifier that cannot judge a "
            "completion returns Verdict(valid=False) and no NaN."
        )
