"""Whether the engine samples from the weights that are trained: its log-probs against the trainer's, after a sync."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from rlsd_lightning.doctor.finding import Finding
from rlsd_lightning.interfaces import RolloutEngine, awake
from rlsd_lightning.models import Policy, adapters
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.types import Problem, Sampling
from rlsd_lightning.weight_check import TOLERANCES, bits_of, logprob_gap
from rlsd_lightning.weights import named_weights

MAX_TOKENS = 16
_CHANGE = 1.25
"""The output embedding is multiplied by this before the sync, so that an engine with old weights is found out."""
_NOISE = 0.05
"""Standard deviation of what is added to adapters, which begin as no change at all."""


def check_logprobs(
    policy: Policy,
    engine: RolloutEngine,
    encoder: PromptEncoder,
    problems: Sequence[Problem],
    sampling: Sampling,
    precision: str,
) -> Finding:
    """Change the weights, sync the engine, sample, and score the same tokens as training does.

    Args:
        policy: where it is to be trained; its weights are changed if the engine keeps a copy.
        engine: bound to the policy.
        encoder: of the run.
        problems: one or two are enough.
        sampling: of the run; cut to a few tokens.
        precision: the trainer's.
    """
    synced = "shares the policy's weights"
    if not engine.shares_policy_weights:
        _change(policy)
        engine.load_weights(named_weights(policy), version=0)
        synced = "after a sync of changed weights"
    limit = min(MAX_TOKENS, sampling.max_completion_tokens)
    few = dataclasses.replace(sampling, max_completion_tokens=limit)
    prompts = [encoder.student(problem) for problem in problems]
    with awake(engine), computing_in(precision, policy.device):
        gap = logprob_gap(policy, engine, prompts, few)
    return judge_gap(type(engine).__name__, synced, gap, bits_of(precision, engine))


def judge_gap(engine: str, synced: str, gap: torch.Tensor, bits: str) -> Finding:
    """Say whether log-probs of the same tokens are close enough.

    Args:
        engine: its name.
        synced: how it got its weights.
        gap: absolute differences in nats. [N]
        bits: of the numbers, see weight_check.bits_of.

    Example:
        >>> judge_gap("Engine", "after a sync", torch.tensor([0.25, 0.75]), "16").level
        'fault'
    """
    tolerance = TOLERANCES[bits]
    seen = (
        f"{engine} {synced}: over {gap.numel()} tokens its log-probs differ from the trainer's by {float(gap.mean()):.2g} "
        f"nats on average, {float(gap.max()):.2g} at most"
    )
    if float(gap.mean()) <= tolerance:  # not so for a nan, either
        return Finding(check="log-probs", level="ok", seen=f"{seen}.")
    return Finding(
        check="log-probs",
        level="fault",
        seen=f"{seen}; {tolerance:g} on average is the most at {bits} bits.",
        advice="Rollouts would not be of the policy that is trained. Compare the engine's dtype, model and weights with it.",
    )


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which the trainer's forward passes run at a precision."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in kinds:
        return nullcontext()
    return torch.autocast(device.type, kinds[precision])


@torch.no_grad()
def _change(policy: Policy) -> None:
    """Change weights so much that log-probs under the old ones are found out; adapters, too."""
    policy.head_weight.mul_(_CHANGE)
    if policy.has_adapters:
        for weight in adapters.weights_of(policy.model, adapters.POLICY):
            weight.add_(torch.randn_like(weight), alpha=_NOISE)
