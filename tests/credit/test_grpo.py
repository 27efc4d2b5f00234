import torch

from rlsd_lightning.credit.grpo import GRPOCredit
from rlsd_lightning.credit.rlsd import RLSDCredit
from rlsd_lightning.interfaces import CreditAssigner

ADVANTAGES = torch.tensor([1.3, -0.7, 0.0])
MASK = torch.tensor([[True, True, True], [True, False, True], [True, True, False]])


def test_every_token_gets_its_completions_advantage():
    credit, metrics = GRPOCredit()(ADVANTAGES, torch.randn(3, 3), None, MASK)
    expected = torch.tensor([[1.3, 1.3, 1.3], [-0.7, 0.0, -0.7], [0.0, 0.0, 0.0]])
    assert torch.equal(credit, expected)
    # |A| over the 7 tokens that count: (3 * 1.3 + 2 * 0.7) / 7
    assert abs(float(metrics["credit/abs_mean"]) - 5.3 / 7) < 1e-6


def test_grpo_is_rlsd_at_lambda_zero_bit_for_bit():
    advantages, mask = torch.randn(5), torch.rand(5, 7) < 0.7
    policy, teacher = torch.randn(5, 7), torch.randn(5, 7)
    rlsd = RLSDCredit()
    assert rlsd.lambda_ == 0.0
    assert torch.equal(
        GRPOCredit()(advantages, policy, None, mask)[0], rlsd(advantages, policy, teacher, mask)[0]
    )


def test_it_is_a_credit_assigner_that_needs_no_teacher():
    assert isinstance(GRPOCredit(), CreditAssigner)
    assert not GRPOCredit().needs_teacher
