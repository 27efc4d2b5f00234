"""The teacher: the weights that read the problem together with its reference.

    live      the policy itself, as it is now
    frozen    the policy as it was at the start
    synced    a copy, refreshed after every N-th optimizer step (RLSD's released code: N = 20, so that steps 1-20 use
              the initial weights and steps 21-40 those after step 20)
    ema       a copy that follows the policy: teacher = decay * teacher + (1 - decay) * policy

A copy is a submodule of the LightningModule, so its weights and its version travel in every checkpoint: a resumed
run goes on with the teacher it had.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from rlsd_lightning.models import Policy


class Teacher(nn.Module):
    """What all teachers share: a copy of the policy (none when live) and the step it was taken at."""

    version: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.copy: Policy | None = None
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))

    def bind(self, policy: Policy) -> None:
        """Take the copy. Called once, when the policy has its initial weights."""
        self.copy = copy.deepcopy(policy).requires_grad_(False).eval()

    def weights(self, policy: Policy) -> Policy:
        """Return the model that scores the teacher's view."""
        assert self.copy is not None, "bind the teacher to a policy first"
        return self.copy

    def shares_vision_with(self, policy: Policy) -> bool:
        """Say whether the policy's visual features are this teacher's too: never for a copy."""
        return False

    def after_step(self, policy: Policy, step: int) -> None:
        """Follow the policy after optimizer step `step`, counted from 1."""


class LiveTeacher(Teacher):
    """The policy itself; costs no memory, and the vision tower is not run twice."""

    def bind(self, policy: Policy) -> None:
        """Keep nothing."""

    def weights(self, policy: Policy) -> Policy:
        """Return the policy."""
        return policy

    def shares_vision_with(self, policy: Policy) -> bool:
        """Always."""
        return True

    def after_step(self, policy: Policy, step: int) -> None:
        """Count the step: these weights are always the newest."""
        self.version.fill_(step)


class FrozenTeacher(Teacher):
    """The policy's initial weights, for the whole run."""


class SyncedTeacher(Teacher):
    """A copy that is refreshed every `every_n_steps` optimizer steps.

    Args:
        every_n_steps: N; RLSD's launch script: 20.
    """

    def __init__(self, every_n_steps: int) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(
                f"teacher.every_n_steps is {every_n_steps}. Set it to 1 or more, or choose teacher=frozen."
            )
        self.every_n_steps = every_n_steps

    def after_step(self, policy: Policy, step: int) -> None:
        """Copy the policy's weights when `step` is a multiple of `every_n_steps`."""
        if step % self.every_n_steps == 0:
            _move_towards(self.weights(policy), policy, share=1.0)
            self.version.fill_(step)


class EmaTeacher(Teacher):
    """A copy that follows the policy by an exponential moving average.

    Args:
        decay: what is kept of the teacher at each step, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(
                f"teacher.decay is {decay}. Set it in [0, 1), or choose teacher=frozen."
            )
        self.decay = decay

    def bind(self, policy: Policy) -> None:
        """Take the copy.

        Raises:
            ValueError: weights too coarse for small moves.
        """
        if policy.dtype != torch.float32:
            raise ValueError(
                f"teacher=ema moves its weights by small shares, which are lost in {policy.dtype}. Set "
                "model.dtype=float32 (trainer.precision says what forward passes compute in), or choose teacher=synced."
            )
        super().bind(policy)

    def after_step(self, policy: Policy, step: int) -> None:
        """Move the copy a share of 1 - decay towards the policy."""
        _move_towards(self.weights(policy), policy, share=1.0 - self.decay)
        self.version.fill_(step)


@torch.no_grad()
def _move_towards(follower: Policy, leader: Policy, share: float) -> None:
    """Set follower to follower + share * (leader - follower); share 1 copies bit for bit."""
    for mine, theirs in zip(follower.parameters(), leader.parameters(), strict=True):
        if share == 1.0:
            mine.copy_(theirs)
        else:
            mine.lerp_(theirs.to(mine.dtype), share)
