"""GRPO / RLVR: every token of a completion gets its advantage."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean


class GRPOCredit:
    """Assigns the completion's advantage to each of its tokens: RLSD at lambda 0, without a teacher."""

    needs_teacher = False

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """See CreditAssigner."""
        credit = torch.where(completion_mask, advantages.detach().unsqueeze(-1), 0.0)
        return credit, {"credit/abs_mean": masked_mean(credit.abs(), completion_mask)}
