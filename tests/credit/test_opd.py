"""OPD: an external model reading x says where each token goes."""

import torch

from rlsd_lightning.credit.opd import OPDCredit
from rlsd_lightning.types import Divergence


def test_a_teacher_that_agrees_has_nothing_to_say():
    logprobs = -torch.rand(2, 3)
    credit, _ = OPDCredit()(torch.tensor([1.0, -1.0]), logprobs, logprobs, torch.ones(2, 3).bool())
    assert not credit.any()


def test_the_teacher_reads_what_the_policy_reads_and_scores_every_completion():
    for method in (OPDCredit(), OPDCredit("distribution", Divergence(kind="reverse_kl", top_k=8))):
        assert method.needs.view == "student"
        assert method.needs.every_completion
        assert method.needs_teacher
