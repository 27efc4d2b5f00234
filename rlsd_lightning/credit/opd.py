"""OPD, on-policy distillation: a larger model, reading the bare problem, says where each token goes.

Choose teacher=external for the model. As RLSD (arXiv:2604.03128) compares itself with it; on-policy distillation in the
distribution form is GKD, arXiv:2306.13649.
"""

from __future__ import annotations

from rlsd_lightning.credit.distillation import DistillationCredit, Form
from rlsd_lightning.types import Divergence


class OPDCredit(DistillationCredit):
    """A_t = log P_E(y_t | x, y_<t) - log P_S(y_t | x, y_<t), E the external model, or the distance of the two.

    Args:
        form: "token" or "distribution".
        divergence: of the "distribution" form.
    """

    def __init__(self, form: Form = "token", divergence: Divergence | None = None) -> None:
        super().__init__("student", form, divergence)
