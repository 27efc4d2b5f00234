"""Credit: what each token of a completion gets of its advantage. One file per method."""

from rlsd_lightning.credit.advantages import group_advantages
from rlsd_lightning.credit.rlsd import evidence_weights, rlsd_credit
from rlsd_lightning.credit.schedule import lambda_at

__all__ = ["evidence_weights", "group_advantages", "lambda_at", "rlsd_credit"]
