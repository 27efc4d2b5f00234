"""Group-relative advantages: how much better a completion did than its siblings."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, eps: float = 1e-6, valid: Tensor | None = None) -> Tensor:
    """Standardise rewards within each group.

    A = (R - mean) / (std + eps), std with n - 1   -- GRPO as in RLSD, arXiv:2604.03128

    A group whose rewards are all equal gets exactly 0, decided on the raw rewards: in floating point the mean of
    eight rewards of 0.9 is not 0.9, and eps alone would let that difference through as an advantage.

    Args:
        rewards: [P, G]
        eps: added to the standard deviation.
        valid: True = the completion could be judged; others leave mean and std and get 0. bool [P, G]

    Returns:
        Advantages; 0 in groups with fewer than two valid completions. [P, G]

    Raises:
        ValueError: a group has one completion only.

    Example:
        >>> group_advantages(torch.tensor([[1.0, 0.0], [0.9, 0.9]]))
        tensor([[ 0.7071, -0.7071],
                [ 0.0000,  0.0000]])
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards has shape {list(rewards.shape)}; needed is [problems, group_size] with group_size 2 or more, "
            "as a completion is compared with its siblings. Raise rollout.group_size."
        )
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    count = valid.sum(dim=1, keepdim=True)
    kept = torch.where(valid, rewards, torch.zeros_like(rewards))
    centred = torch.where(valid, rewards - kept.sum(1, keepdim=True) / count.clamp(min=1), 0.0)
    std = (centred.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    lowest = torch.where(valid, rewards, torch.inf).amin(dim=1, keepdim=True)
    highest = torch.where(valid, rewards, -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(valid & (lowest < highest), centred / (std + eps), 0.0).to(rewards.dtype)
