"""GRPO+OPSD: the verdict's advantage plus a share of the teacher's gain. RLSD's (arXiv:2604.03128) mixed baseline.

The sum lets the teacher turn a token against the verdict, which RLSD's product cannot.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rlsd_lightning.credit.distillation import DistillationCredit, Form
from rlsd_lightning.metrics import Mean, masked_mean
from rlsd_lightning.types import Divergence


class GRPOPlusOPSDCredit:
    """A_t = A + beta * (log P_T(y_t | x, r, y_<t) - log P_S(y_t | x, y_<t)), or A and beta times a divergence.

    Args:
        beta: what the teacher counts beside the verdict, above 0.
        form: "token" or "distribution".
        divergence: of the "distribution" form; its weight is beta.
    """

    needs_teacher = True

    def __init__(
        self, beta: float = 0.1, form: Form = "token", divergence: Divergence | None = None
    ) -> None:
        if beta <= 0:
            raise ValueError(
                f"credit.beta is {beta}, needs a value above 0. Without a teacher, choose credit=grpo."
            )
        if divergence is not None:
            divergence = replace(divergence, weight=beta)
        self.beta = beta
        self._opsd = DistillationCredit("reference", form, divergence)
        self.needs = self._opsd.needs

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """See CreditAssigner."""
        pull, metrics = self._opsd(advantages, policy_logprobs, teacher_logprobs, completion_mask)
        verdict = torch.where(completion_mask, advantages.detach()[:, None], 0.0)
        credit = verdict + self.beta * pull
        turned = (credit * verdict < 0).float()
        return credit, metrics | {
            "credit/abs_mean": masked_mean(credit.abs(), completion_mask),
            "credit/against_verdict_fraction": masked_mean(turned, completion_mask),
        }
