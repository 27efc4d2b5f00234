"""OPSD: what its sampled-token form estimates."""

import torch

from rlsd_lightning.credit.opsd import OPSDCredit


def double(seed, vocabulary=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(vocabulary, generator=generator, dtype=torch.float64)


def test_the_token_form_is_an_estimate_of_the_gradient_of_the_reverse_kl():
    """Summed over all tokens, each weighted by its probability: grad E_S[sg(A) log S] = -grad KL(S || T)."""
    logits, teacher = double(0).requires_grad_(), double(1).log_softmax(0)
    policy = logits.log_softmax(0)
    every_token = torch.ones(len(logits), 1, dtype=torch.bool)
    credit, _ = OPSDCredit()(
        torch.zeros(len(logits)), policy[:, None], teacher[:, None], every_token
    )
    gain = (policy.detach().exp() * credit[:, 0] * policy).sum()
    (found,) = torch.autograd.grad(gain, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(policy.exp() * (policy - teacher)).sum(), logits)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_verdict_changes_nothing():
    policy, teacher = double(0)[None], double(1)[None]
    mask = torch.ones(1, 7, dtype=torch.bool)
    right, wrong = (OPSDCredit()(torch.tensor([a]), policy, teacher, mask)[0] for a in (1.5, -1.5))
    assert torch.equal(right, wrong)


def test_the_teacher_reads_the_reference():
    assert OPSDCredit().needs.view == "reference"
