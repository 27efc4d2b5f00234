"""What OPD, OPSD, SDPO and GRPO+OPSD share: a teacher that says in which direction each token goes.

Two forms. "token": the sampled token's log P_T - log P_S is its advantage, a one-sample estimate of the gradient of
-KL(S || T). "distribution": the credit says nothing and a divergence between the two next-token distributions is added
to the loss. In both, unlike in RLSD, the policy is pulled towards what only the teacher's context could know.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rlsd_lightning.metrics import Mean, masked_mean
from rlsd_lightning.types import CreditNeeds, Divergence, TeacherView

Form = Literal["token", "distribution"]


def distillation_credit(
    policy_logprobs: Tensor, teacher_logprobs: Tensor, completion_mask: Tensor
) -> Tensor:
    """Give each token the teacher's gain on it as its advantage.

    A_t = log P_T(y_t) - log P_S(y_t)   -- OPD and OPSD as RLSD (arXiv:2604.03128) compares itself with them

    Args:
        policy_logprobs: log P_S. [B, T]
        teacher_logprobs: log P_T, under whatever the teacher reads. [B, T]
        completion_mask: True = the token counts. bool [B, T]

    Returns:
        Per-token advantages without gradient; exactly 0 where the mask is False. [B, T]

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> distillation_credit(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-0.5, -4.0]]), torch.tensor([[True, True]]))
        tensor([[ 0.5000, -2.0000]])
    """
    if not policy_logprobs.shape == teacher_logprobs.shape == completion_mask.shape:
        raise ValueError(
            f"distillation_credit: policy_logprobs, teacher_logprobs and completion_mask have the shapes "
            f"{list(policy_logprobs.shape)}, {list(teacher_logprobs.shape)} and {list(completion_mask.shape)}, need "
            "[B, T] all. Score the completions that were sampled under both."
        )
    return torch.where(completion_mask, teacher_logprobs - policy_logprobs, 0.0).detach()


class DistillationCredit:
    """Assigns the teacher's gain as credit, or nothing where a divergence in the loss does the work.

    Args:
        view: what the teacher reads.
        form: "token" or "distribution".
        divergence: of the "distribution" form; None in the "token" form.
    """

    needs_teacher = True

    def __init__(self, view: TeacherView, form: Form, divergence: Divergence | None) -> None:
        if form not in get_args(Form):
            raise ValueError(
                f"credit.form is {form!r}, needs one of {', '.join(get_args(Form))}. Set one of them."
            )
        if (form == "distribution") != (divergence is not None):
            raise ValueError(
                f"credit.form is {form} and credit.divergence is {divergence}. Needed: a divergence for "
                "form=distribution, and none for form=token. Choose the yaml of the form you want."
            )
        self.form: Form = form
        self.needs = CreditNeeds(view=view, every_completion=True, divergence=divergence)

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """See CreditAssigner; the advantages change nothing."""
        if teacher_logprobs is None:
            raise ValueError(
                "credit: teacher_logprobs is None, needs [B, T]. This method takes its direction from the teacher: "
                "score every completion under it."
            )
        gain = distillation_credit(policy_logprobs, teacher_logprobs, completion_mask)
        credit = gain if self.form == "token" else torch.zeros_like(gain)
        return credit, {
            "credit/gain_mean": masked_mean(gain, completion_mask),
            "credit/abs_mean": masked_mean(credit.abs(), completion_mask),
        }
