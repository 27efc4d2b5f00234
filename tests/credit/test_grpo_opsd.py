"""GRPO+OPSD: the verdict plus a share of the teacher's gain, by hand."""

import pytest
import torch

from rlsd_lightning.credit.grpo_opsd import GRPOPlusOPSDCredit
from rlsd_lightning.types import Divergence

POLICY = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -0.5, -0.5]])
TEACHER = torch.tensor([[-0.5, -4.0, float("nan")], [-0.5, -0.25, -1.5]])
MASK = torch.tensor([[True, True, False], [True, True, True]])
ADVANTAGES = torch.tensor([0.0, -2.0])


def test_grpo_opsd_adds_beta_times_the_gain_to_the_verdict():
    """0.5 beta; -2 beta; | -2 + 0, -2 + 0.25 beta, -2 - beta, with beta 0.5."""
    credit, metrics = GRPOPlusOPSDCredit(beta=0.5)(ADVANTAGES, POLICY, TEACHER, MASK)
    assert credit.tolist() == [[0.25, -1.0, 0.0], [-2.0, -1.875, -2.5]]
    assert float(metrics["credit/against_verdict_fraction"]) == 0.0


def test_the_sum_can_turn_a_token_against_the_verdict_and_says_how_often():
    """-0.25 + 1 * 2 = 1.75 for a completion judged wrong: one token of two."""
    credit, metrics = GRPOPlusOPSDCredit(beta=1.0)(
        torch.tensor([-0.25]),
        torch.tensor([[-3.0, -1.0]]),
        torch.tensor([[-1.0, -1.0]]),
        torch.tensor([[True, True]]),
    )
    assert credit.tolist() == [[1.75, -0.25]]
    assert float(metrics["credit/against_verdict_fraction"]) == 0.5


def test_the_distribution_form_of_grpo_opsd_keeps_the_verdict_and_weighs_the_divergence_by_beta():
    made = GRPOPlusOPSDCredit(beta=0.25, form="distribution", divergence=Divergence(weight=1.0))
    credit, _ = made(ADVANTAGES, POLICY, TEACHER, MASK)
    assert credit.tolist() == [[0.0, 0.0, 0.0], [-2.0, -2.0, -2.0]]
    assert made.needs.divergence.weight == 0.25


def test_beta_must_count():
    with pytest.raises(ValueError, match=r"credit\.beta is 0"):
        GRPOPlusOPSDCredit(beta=0)
