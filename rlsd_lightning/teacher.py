"""The teacher: the weights that read the problem together with its reference.

    live      the policy itself, as it is now
    frozen    the policy as it was at the start
    synced    a copy, refreshed after every N-th optimizer step (RLSD's released code: N = 20, so that steps 1-20 use
              the initial weights and steps 21-40 those after step 20)
    ema       a copy that follows the policy: teacher = decay * teacher + (1 - decay) * policy
    external  another model, usually a larger one, with the policy's vocabulary

A copy is a submodule of the LightningModule, so its weights and its version travel in every checkpoint: a resumed
run goes on with the teacher it had.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from rlsd_lightning.models import Policy, adapters, load_policy, load_reader
from rlsd_lightning.models.policy import AdapterView


class Teacher(nn.Module):
    """What all teachers share: a copy of the policy (none when live) and the step it was taken at."""

    version: torch.Tensor
    follows_policy = False
    """Whether after_step ever changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.copy: Policy | None = None
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))

    def bind(self, policy: Policy) -> None:
        """Take the copy. Called once, when the policy has its initial weights.

        Beside LoRA there is nothing to copy but the adapters, and those only if the teacher follows the policy.
        """
        if not policy.has_adapters:
            self.copy = copy.deepcopy(policy).requires_grad_(False).eval()
        elif self.follows_policy:
            adapters.add_teacher(policy.model)

    def weights(self, policy: Policy) -> Policy:
        """Return the model that scores the teacher's view."""
        if policy.has_adapters:
            return AdapterView(policy, adapters.TEACHER if self.follows_policy else None)
        assert self.copy is not None, "bind the teacher to a policy first"
        return self.copy

    def shares_vision_with(self, policy: Policy) -> bool:
        """Say whether the policy's visual features are this teacher's too."""
        return policy.vision_is_frozen

    def after_step(self, policy: Policy, step: int) -> None:
        """Follow the policy after optimizer step `step`, counted from 1."""

    @torch.no_grad()
    def _follow(self, policy: Policy, share: float) -> None:
        """Set each weight to weight + share * (policy's - weight); share 1 copies bit for bit.

        Both are kept in the same way among the ranks, so that each rank moves its parts and nothing is sent.
        """
        follower = self.weights(policy)
        for model in (follower, policy):
            model.placement.release(model)
        if policy.has_adapters:
            pairs = zip(
                adapters.weights_of(policy.model, adapters.TEACHER),
                adapters.weights_of(policy.model, adapters.POLICY),
                strict=True,
            )
        else:
            pairs = zip(follower.parameters(), policy.parameters(), strict=True)
        for mine, theirs in pairs:
            here, there = policy.placement.local(mine), policy.placement.local(theirs)
            if share == 1.0:
                here.copy_(there)
            else:
                here.lerp_(there.to(here.dtype), share)


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

    follows_policy = True

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
            self._follow(policy, share=1.0)
            self.version.fill_(step)


class EmaTeacher(Teacher):
    """A copy that follows the policy by an exponential moving average.

    Args:
        decay: what is kept of the teacher at each step, in [0, 1).
    """

    follows_policy = True

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
        trained = {weight.dtype for weight in policy.parameters() if weight.requires_grad}
        if trained != {torch.float32}:
            raise ValueError(
                f"teacher=ema moves its weights by small shares, which are lost in {', '.join(map(str, trained))}. Set "
                "model.dtype=float32 (trainer.precision says what forward passes compute in), or choose teacher=synced."
            )
        super().bind(policy)

    def after_step(self, policy: Policy, step: int) -> None:
        """Move the copy a share of 1 - decay towards the policy."""
        self._follow(policy, share=1.0 - self.decay)
        self.version.fill_(step)


class ExternalTeacher(Teacher):
    """Another model. It never changes, so checkpoints do not hold it: it is loaded again from where it came.

    Args:
        path: Hugging Face folder or hub name.
        policy_path: of the policy, whose vocabulary it must share.
        revision: branch, tag or commit on the hub.
        dtype: of the weights.
        attn_implementation: as in load_policy.

    Raises:
        ValueError: the vocabularies differ; names the first token that does.
    """

    def __init__(
        self,
        path: str,
        policy_path: str,
        revision: str | None = None,
        dtype: str = "bfloat16",
        attn_implementation: str = "sdpa",
    ) -> None:
        super().__init__()
        readers = [load_reader(policy_path)[0], load_reader(path, revision)[0]]
        check_same_vocabulary(*(getattr(reader, "tokenizer", reader) for reader in readers))
        model = load_policy(path, dtype, attn_implementation, revision=revision)
        self.copy = model.requires_grad_(False).eval()
        self.register_state_dict_post_hook(_without_copy)
        self.register_load_state_dict_pre_hook(_with_copy)

    def weights(self, policy: Policy) -> Policy:
        """Return the other model."""
        assert self.copy is not None
        return self.copy

    def shares_vision_with(self, policy: Policy) -> bool:
        """Never: another model has other features."""
        return False

    def bind(self, policy: Policy) -> None:
        """Check that the two models fit.

        Raises:
            ValueError: they are of different families, or score another number of tokens.
        """
        external = self.weights(policy)
        theirs, ours = type(external.family).__name__, type(policy.family).__name__
        if theirs != ours:
            raise ValueError(
                f"teacher.path holds a model of {theirs}, the policy is of {ours}: prompts would differ. Choose a "
                "teacher of the policy's family."
            )
        sizes = len(external.head_weight), len(policy.head_weight)
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"teacher.path holds a model that scores {sizes[0]} tokens, the policy scores {sizes[1]}. Their "
                "distributions need one vocabulary: choose a teacher with the policy's, or pad its embedding."
            )


def check_same_vocabulary(policy: Any, teacher: Any) -> None:
    """Make sure that equal ids are equal tokens.

    Args:
        policy: the policy's tokenizer.
        teacher: the teacher's tokenizer.

    Raises:
        ValueError: they are not; names the first id that differs.
    """
    ours, theirs = (
        {index: token for token, index in tokenizer.get_vocab().items()}
        for tokenizer in (policy, teacher)
    )
    for index in sorted(ours.keys() | theirs.keys()):
        if ours.get(index) != theirs.get(index):
            raise ValueError(
                f"teacher.path has another vocabulary than model.path: token {index} is {theirs.get(index)!r} there and "
                f"{ours.get(index)!r} here. The teacher scores the policy's token ids, so both need the same ones: "
                "choose a teacher of the policy's model series."
            )


def _without_copy(teacher: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Take the external weights out of a checkpoint."""
    for key in [key for key in state if key.startswith(f"{prefix}copy.")]:
        del state[key]


def _with_copy(teacher: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a checkpoint without the external weights be loaded."""
    external = teacher.get_submodule("copy").state_dict(prefix=f"{prefix}copy.")
    state.update(external)
