"""Asks the teacher about a micro-batch: log-probs under its views, and how far its distributions are from the policy's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsd_lightning.divergence import token_divergence
from rlsd_lightning.models import Policy
from rlsd_lightning.models.family import ImageFeatures
from rlsd_lightning.models.policy import spread
from rlsd_lightning.types import CreditNeeds, Divergence, RolloutBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherEvidence:
    """What the teacher says of a micro-batch; all None while the method does not ask."""

    logprobs: Tensor | None = None
    """log P_T of the completion tokens; the policy's own where the teacher was not asked. [B, T]"""
    contrast_logprobs: Tensor | None = None
    """The same behind another problem's reference. [B, T]"""
    states: Tensor | None = None
    """The teacher's hidden states at the tokens that it scored. [N', H]"""


@torch.no_grad()
def ask_teacher(
    teacher: Policy,
    needs: CreditNeeds,
    batch: RolloutBatch,
    policy_logprobs: Tensor,
    features: ImageFeatures,
    temperature: float,
) -> TeacherEvidence:
    """Score the completions in batch.teacher_index under the teacher's views.

    The others keep the policy's own log-probs: their gain is 0, and no weight could change their credit.

    Args:
        teacher: the weights that are asked.
        needs: what the method asks for.
        batch: the micro-batch.
        policy_logprobs: log P_S of the completion tokens, without gradient. [B, T]
        features: the teacher's, of the batch's images.
        temperature: divides the logits, above 0.
    """
    contrast = policy_logprobs if needs.contrast else None
    if batch.teacher is None:
        return TeacherEvidence(logprobs=policy_logprobs, contrast_logprobs=contrast)
    chosen = batch.teacher_index
    token_ids, mask = batch.token_ids[chosen], batch.completion_mask[chosen]
    states = teacher.predictors(batch.teacher, mask, features)
    logprobs = policy_logprobs.clone()
    logprobs[chosen] = teacher.logprobs_of(states, token_ids, mask, temperature)
    if batch.contrast is not None:
        contrast = policy_logprobs.clone()
        contrast[chosen] = teacher.logprobs(batch.contrast, token_ids, mask, features, temperature)
    return TeacherEvidence(logprobs=logprobs, contrast_logprobs=contrast, states=states)


def divergence_from_teacher(
    asked: Divergence,
    batch: RolloutBatch,
    policy: Policy,
    states: Tensor,
    teacher: Policy,
    teacher_states: Tensor | None,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Measure at each token how far the policy's next-token distribution is from the teacher's.

    Args:
        asked: which divergence.
        batch: the micro-batch.
        policy: the student.
        states: its hidden states at the loss tokens, with gradient. [N, H]
        teacher: the weights that were asked.
        teacher_states: its hidden states at the tokens that it scored; None where it scored none. [N', H']
        temperature: divides both sides' logits.

    Returns:
        Nats, with gradient to the policy; 0 where the teacher has no view of the completion [B, T]. And where it has
        one. bool [B, T]
    """
    scored = torch.zeros_like(batch.completion_mask)
    scored[batch.teacher_index] = batch.completion_mask[batch.teacher_index]
    if teacher_states is None:
        return states.new_zeros(scored.shape, dtype=torch.float32), scored
    values = token_divergence(
        states[scored[batch.completion_mask]],
        policy.head_weight,
        teacher_states,
        teacher.head_weight,
        kind=asked.kind,
        temperature=temperature,
        jsd_weight=asked.jsd_weight,
        top_k=asked.top_k,
        top_k_by=asked.top_k_by,
    )
    return spread(values, scored), scored
