"""OPSD, on-policy self-distillation: the policy itself, reading the reference, is its own teacher.

The baseline that RLSD (arXiv:2604.03128) argues against: a policy that reads x cannot match a teacher that read r, and
what is left, the mutual information of token and reference, pulls it towards appealing to a reference nobody gave it.
The paper's baseline is the distribution form.
"""

from __future__ import annotations

from rlsd_lightning.credit.distillation import DistillationCredit, Form
from rlsd_lightning.types import Divergence


class OPSDCredit(DistillationCredit):
    """A_t = log P_T(y_t | x, r, y_<t) - log P_S(y_t | x, y_<t), or the distance between the two distributions.

    Args:
        form: "token" or "distribution".
        divergence: of the "distribution" form.
    """

    def __init__(self, form: Form = "token", divergence: Divergence | None = None) -> None:
        super().__init__("reference", form, divergence)
