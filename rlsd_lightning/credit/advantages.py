"""Group-relative advantages: how much better a completion did than its siblings."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Estimator = Literal["grpo", "dr_grpo", "rloo"]


def group_advantages(
    rewards: Tensor,
    eps: float = 1e-6,
    valid: Tensor | None = None,
    estimator: Estimator = "grpo",
) -> Tensor:
    """Compare each reward with those of its group.

    grpo:    A = (R - mean) / (std + eps), std with n - 1   -- GRPO, as RLSD (arXiv:2604.03128) uses it
    dr_grpo: A = R - mean, so that no group counts more because its rewards lie close   -- Dr. GRPO, arXiv:2503.20783
    rloo:    A = R - mean of the others = (R - mean) n / (n - 1), a baseline without bias   -- RLOO, arXiv:2402.14740

    A group whose rewards are all equal gets exactly 0, decided on the raw rewards: in float32 the mean of eight
    rewards of 0.9 is off by one unit in the last place, std is as small, and RLSD's released code gives -0.056 each.

    Args:
        rewards: one per completion, a row per group. [P, G]
        eps: added to the standard deviation; only for grpo.
        valid: True = the completion could be judged; the others leave every mean and std and get 0. bool [P, G]
        estimator: "grpo", "dr_grpo" or "rloo".

    Returns:
        Advantages; 0 in groups with fewer than two valid completions. [P, G]

    Raises:
        ValueError: if rewards is not [P, G], a group has one completion only, a valid reward is not finite, or the
            estimator is unknown.

    Example:
        >>> rewards = torch.tensor([[1.0, 0.0], [0.9, 0.9]])
        >>> group_advantages(rewards)
        tensor([[ 0.7071, -0.7071],
                [ 0.0000,  0.0000]])
        >>> group_advantages(rewards, estimator="rloo")
        tensor([[ 1., -1.],
                [ 0.,  0.]])
    """
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    _check_estimator(estimator)
    _check(rewards, valid)
    count = valid.sum(1, keepdim=True)
    mean = torch.where(valid, rewards, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(valid, rewards - mean, 0.0)
    lowest = torch.where(valid, rewards, torch.inf).amin(1, keepdim=True)
    highest = torch.where(valid, rewards, -torch.inf).amax(1, keepdim=True)
    advantages = _scaled(centred, count, eps, estimator)
    return torch.where(valid & (lowest < highest), advantages, 0.0)


def _scaled(centred: Tensor, count: Tensor, eps: float, estimator: Estimator) -> Tensor:
    """Return R - mean [P, G] in the estimator's unit, from how many were judged in each group [P, 1]."""
    if estimator == "dr_grpo":
        return centred
    others = (count - 1).clamp(min=1)
    if estimator == "rloo":
        return centred * count / others
    return centred / ((centred.square().sum(1, keepdim=True) / others).sqrt() + eps)


class GroupAdvantages:
    """group_advantages with its settings chosen.

    Args:
        estimator: as in group_advantages; RLSD: grpo.
        eps: as in group_advantages; RLSD's launch script: 1e-6.
    """

    def __init__(self, estimator: Estimator = "grpo", eps: float = 1e-6) -> None:
        _check_estimator(estimator)
        if eps < 0:
            raise ValueError(
                f"rollout.advantages.eps is {eps}, needs 0 or more: below 0 a group whose rewards hardly differ would "
                "change sign. RLSD's launch script: 1e-6."
            )
        self.estimator: Estimator = estimator
        self.eps = eps

    def __call__(self, rewards: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return one advantage per completion.

        Args:
            rewards: as in group_advantages. [P, G]
            valid: as in group_advantages. bool [P, G]
        """
        return group_advantages(rewards, self.eps, valid, self.estimator)


def _check_estimator(estimator: str) -> None:
    if estimator not in get_args(Estimator):
        raise ValueError(
            f"rollout.advantages.estimator is {estimator!r}, needs one of {', '.join(get_args(Estimator))}. Set one of "
            "them, or point rollout.advantages._target_ at a class of your own."
        )


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
