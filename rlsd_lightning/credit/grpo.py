"""GRPO / RLVR: every token of a completion gets the completion's advantage. RLSD at lambda 0, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean


class GRPOCredit:
    """Assigns a completion's advantage to each of its tokens, without a teacher."""

    needs_teacher = False

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """See CreditAssigner; the log-probs change nothing."""
        credit = torch.where(completion_mask, advantages.detach()[:, None], 0.0)
        return credit, {"credit/abs_mean": masked_mean(credit.abs(), completion_mask)}
