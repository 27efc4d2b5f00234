"""What OPD, OPSD, SDPO and GRPO+OPSD share: numbers by hand, and what each asks of the stations before it."""

import pytest
import torch

from rlsd_lightning.credit.distillation import distillation_credit
from rlsd_lightning.credit.grpo import GRPOCredit
from rlsd_lightning.credit.grpo_opsd import GRPOPlusOPSDCredit
from rlsd_lightning.credit.opd import OPDCredit
from rlsd_lightning.credit.opsd import OPSDCredit
from rlsd_lightning.credit.rlsd import RLSDCredit
from rlsd_lightning.credit.sdpo import SDPOCredit
from rlsd_lightning.interfaces import CreditAssigner, ever_asks_teacher, needs_of
from rlsd_lightning.types import CreditNeeds, Divergence

POLICY = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -0.5, -0.5]], requires_grad=True)
TEACHER = torch.tensor([[-0.5, -4.0, float("nan")], [-0.5, -0.25, -1.5]])
MASK = torch.tensor([[True, True, False], [True, True, True]])
ADVANTAGES = torch.tensor([0.0, -2.0])
METHODS = {"opd": OPDCredit, "opsd": OPSDCredit, "sdpo": SDPOCredit}


@pytest.mark.parametrize("method", METHODS)
def test_the_token_form_gives_each_token_its_gain_whatever_the_verdict(method):
    """-0.5 + 1 = 0.5, -4 + 2 = -2, masked; 0, 0.25, -1."""
    credit, metrics = METHODS[method]()(ADVANTAGES, POLICY, TEACHER, MASK)
    assert credit.tolist() == [[0.5, -2.0, 0.0], [0.0, 0.25, -1.0]]
    assert not credit.requires_grad
    assert float(metrics["credit/gain_mean"]) == pytest.approx((0.5 - 2 + 0.25 - 1) / 5)


@pytest.mark.parametrize("method", METHODS)
def test_the_distribution_form_leaves_the_credit_at_zero_and_asks_for_a_divergence(method):
    divergence = Divergence(kind="jsd")
    made = METHODS[method](form="distribution", divergence=divergence)
    credit, _ = made(ADVANTAGES, POLICY, TEACHER, MASK)
    assert not credit.any()
    assert made.needs.divergence is divergence


def test_each_method_says_what_its_teacher_reads_and_of_which_completions():
    asked = {
        name: (needs_of(method).view, needs_of(method).every_completion)
        for name, method in {
            "opd": OPDCredit(),
            "opsd": OPSDCredit(),
            "sdpo": SDPOCredit(),
            "grpo_opsd": GRPOPlusOPSDCredit(),
            "rlsd": RLSDCredit(),
        }.items()
    }
    assert asked == {
        "opd": ("student", True),
        "opsd": ("reference", True),
        "sdpo": ("siblings", True),
        "grpo_opsd": ("reference", True),
        "rlsd": ("reference", False),
    }


def test_a_method_that_states_no_needs_asks_for_nothing_special():
    assert needs_of(GRPOCredit()) == CreditNeeds()


def test_whether_a_method_ever_asks_a_teacher():
    """RLSD starts at lambda 0, and its schedule raises it."""
    assert [ever_asks_teacher(m) for m in (GRPOCredit(), RLSDCredit(), OPSDCredit())] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("made", [*(m() for m in METHODS.values()), GRPOPlusOPSDCredit()])
def test_a_missing_teacher_is_named(made):
    assert isinstance(made, CreditAssigner)
    with pytest.raises(ValueError, match="teacher_logprobs is None"):
        made(ADVANTAGES, POLICY, None, MASK)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"form": "tokens"}, "credit.form is 'tokens'"),
        ({"form": "distribution"}, "needed: a divergence"),
        ({"form": "token", "divergence": Divergence()}, "needed: a divergence"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(settings, named):
    with pytest.raises(ValueError, match=f"(?i){named}"):
        OPSDCredit(**settings)


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        distillation_credit(torch.zeros(1, 2), torch.zeros(1, 3), torch.ones(1, 2).bool())
