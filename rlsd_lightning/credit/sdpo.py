"""SDPO, self-distillation with sibling completions as context: what worked and what failed for the same problem.

arXiv:2601.20802, as RLSD (arXiv:2604.03128) compares itself with it: the teacher reads the shortest correct and the shortest
incorrect completion of the group (data/teacher_views.py). It needs a verifier and no reference; a group without a
correct completion teaches nothing.
"""

from __future__ import annotations

from rlsd_lightning.credit.distillation import DistillationCredit, Form
from rlsd_lightning.types import Divergence


class SDPOCredit(DistillationCredit):
    """A_t = log P_T(y_t | x, siblings, y_<t) - log P_S(y_t | x, y_<t), or the distance of the two distributions.

    Args:
        form: "token" or "distribution".
        divergence: of the "distribution" form.
    """

    def __init__(self, form: Form = "token", divergence: Divergence | None = None) -> None:
        super().__init__("siblings", form, divergence)
