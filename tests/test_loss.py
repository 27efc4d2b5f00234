import json
import logging
import math
from pathlib import Path

import pytest
import torch

from rlsd_lightning.loss import PolicyLoss, clipped_policy_loss
from rlsd_lightning.metrics import StepMetrics

# Computed in float64 with the method's released implementation (arXiv:2604.03128); see its "note".
GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_rlsd.json").read_text())["credit"]
MODES = {
    "default": {"ratio": "token", "kind": "ppo"},
    "gspo_token": {"ratio": "sequence", "kind": "ppo"},
    "cispo": {"ratio": "token", "kind": "cispo"},
}
CLIP = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}
OPTIONS = [
    {"ratio": ratio, "kind": kind, "reduction": reduction}
    for ratio in ("token", "sequence")
    for kind in ("ppo", "cispo")
    for reduction in ("token", "sequence")
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o.values()))


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def random_batch(num_completions=6, num_tokens=9, seed=0):
    """Log-probs far enough apart that every clip is met; one completion has no loss token."""
    generator = torch.Generator().manual_seed(seed)
    shape = num_completions, num_tokens
    policy = -3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    rollout = policy + 0.7 * torch.randn(shape, generator=generator, dtype=torch.float64)
    credit = torch.randn(shape, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, num_tokens + 1, (num_completions, 1), generator=generator)
    lengths[2] = 0
    return policy, rollout, credit, torch.arange(num_tokens) < lengths


def loss_and_gradient(policy, *rest, **options):
    policy = policy.detach().requires_grad_()
    loss = clipped_policy_loss(policy, *rest, **(CLIP | options))
    (gradient,) = torch.autograd.grad(loss, policy)
    return loss.detach(), gradient


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"case{case['seed']}")
@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("mode", MODES)
def test_the_released_losses_and_gradients_are_reproduced(case, mode, reduction):
    expected = case["policy_loss"][f"{mode}/{'seq' if reduction == 'sequence' else 'token'}"]
    loss, gradient = loss_and_gradient(
        double(case["student_logprobs"]),
        double(case["old_logprobs"]),
        double(case["token_advantage"]),
        torch.tensor(case["mask"], dtype=torch.bool),
        reduction=reduction,
        **MODES[mode],
    )
    assert float(loss) == pytest.approx(expected["loss"], abs=1e-6)
    torch.testing.assert_close(gradient, double(expected["grad"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"case{case['seed']}")
def test_the_released_metrics_are_reproduced(case):
    mask = torch.tensor(case["mask"], dtype=torch.bool)
    _, metrics = PolicyLoss()(
        double(case["student_logprobs"]),
        double(case["old_logprobs"]),
        double(case["token_advantage"]),
        mask,
        num_tokens=int(mask.sum()),
        num_completions=6,
    )
    expected = case["policy_loss"]["default/token"]
    # Theirs counts both bounds in one number.
    clipped = float(metrics["loss/clip_high_fraction"]) + float(metrics["loss/clip_low_fraction"])
    assert clipped == pytest.approx(expected["clipfrac_higher"], abs=1e-6)
    assert float(metrics["loss/approx_kl"]) == pytest.approx(expected["ppo_kl"], abs=1e-6)
    assert float(metrics["loss/policy"]) == pytest.approx(expected["loss"], abs=1e-6)


# A row per case: ratio, credit, loss of the one token, d loss / d log-prob.
HAND = [
    (1.0, 2.0, -2.0, -2.0),  # on policy: loss -A, gradient -A
    (1.1, 2.0, -2.2, -2.2),  # inside the band: -rho A
    (1.5, 2.0, -2.56, 0.0),  # A > 0 above 1.28: clipped, no gradient
    (0.5, 2.0, -1.0, -1.0),  # A > 0 below 0.8: the unclipped loss is the worse one, gradient kept
    (0.5, -2.0, 1.6, 0.0),  # A < 0 below 0.8: clipped
    (1.5, -2.0, 3.0, 3.0),  # A < 0 above 1.28: kept
    (5.0, -2.0, 6.0, 0.0),  # A < 0 above 3: dual clip
]


@pytest.mark.parametrize(("rho", "credit", "loss", "gradient"), HAND)
def test_numbers_worked_out_by_hand(rho, credit, loss, gradient):
    batch = double([[math.log(rho)]]), double([[0.0]]), double([[credit]]), torch.tensor([[True]])
    found = loss_and_gradient(*batch)
    assert [float(value) for value in found] == pytest.approx([loss, gradient], abs=1e-12)


def test_without_dual_clip_a_negative_credit_keeps_its_gradient():
    batch = double([[math.log(5.0)]]), double([[0.0]]), double([[-2.0]]), torch.tensor([[True]])
    found = loss_and_gradient(*batch, dual_clip=None)
    assert [float(value) for value in found] == pytest.approx([10.0, 10.0], abs=1e-12)


@every_option
def test_the_slow_obvious_reference(options):
    policy, rollout, credit, mask = random_batch()
    found, _ = loss_and_gradient(policy, rollout, credit, mask, **options)
    token_losses, means = [], []
    for b in range(mask.shape[0]):
        places = [t for t in range(mask.shape[1]) if mask[b, t]]
        gaps = {t: float(policy[b, t] - rollout[b, t]) for t in places}
        losses = []
        for t in places:
            log_rho = sum(gaps.values()) / len(gaps) if options["ratio"] == "sequence" else gaps[t]
            rho, advantage = math.exp(log_rho), float(credit[b, t])
            banded = min(max(rho, 0.8), 1.28)
            if options["kind"] == "cispo":
                losses.append(-banded * advantage * float(policy[b, t]))
            else:
                worst = max(-rho * advantage, -banded * advantage)
                losses.append(min(worst, -3.0 * advantage) if advantage < 0 else worst)
        token_losses += losses
        means += [sum(losses) / len(losses)] if losses else []
    chosen = token_losses if options["reduction"] == "token" else means
    assert float(found) == pytest.approx(sum(chosen) / len(chosen), abs=1e-12)


@pytest.mark.parametrize("kind", ["ppo", "cispo"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_on_policy_the_gradient_is_minus_the_credit_over_the_tokens(ratio, kind):
    policy, _, credit, mask = random_batch()
    _, gradient = loss_and_gradient(policy, policy, credit, mask, ratio=ratio, kind=kind)
    expected = torch.where(mask, -credit / mask.sum(), 0.0)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


@every_option
def test_micro_batches_add_up_to_the_batch(options):
    batch = random_batch()
    mask = batch[-1]
    whole, gradient = loss_and_gradient(*batch, **options)
    loss = PolicyLoss(**CLIP, **options)
    counts = {"num_tokens": int(mask.sum()), "num_completions": int(mask.any(1).sum())}
    _, metrics = loss(*batch, **counts)
    step, parts, gradients = StepMetrics(), [], []
    for rows in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 6)):
        policy, *rest = (tensor[rows] for tensor in batch)
        policy = policy.clone().requires_grad_()
        part, part_metrics = loss(policy, *rest, **counts)
        gradients += torch.autograd.grad(part, policy)
        parts.append(part.detach())
        step.add(part_metrics)
    torch.testing.assert_close(sum(parts), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.cat(gradients), gradient, atol=1e-12, rtol=0)
    reduced = step.reduce()
    assert reduced == pytest.approx({name: float(mean) for name, mean in metrics.items()}, abs=1e-9)
    assert reduced["loss/policy"] == pytest.approx(float(whole), abs=1e-12)


@every_option
def test_padding_changes_nothing_whatever_lies_there(options):
    batch = random_batch()
    loss, gradient = loss_and_gradient(*batch, **options)
    for junk in (0.0, float("nan"), float("inf")):
        padded = [torch.nn.functional.pad(tensor, (0, 3), value=junk) for tensor in batch[:3]]
        padded = [tensor.masked_fill(~pad_mask(batch[3]), junk) for tensor in padded]
        found, found_gradient = loss_and_gradient(*padded, pad_mask(batch[3]), **options)
        torch.testing.assert_close(found, loss, atol=1e-12, rtol=0)
        torch.testing.assert_close(found_gradient[:, :-3], gradient, atol=1e-12, rtol=0)
        assert not found_gradient[:, -3:].any()


def pad_mask(mask):
    return torch.nn.functional.pad(mask, (0, 3), value=False)


@every_option
def test_no_loss_token_at_all_gives_zero(options):
    policy, rollout, credit, mask = random_batch()
    nothing = torch.zeros_like(mask)
    loss, gradient = loss_and_gradient(policy, rollout, credit, nothing, **options)
    assert float(loss) == 0
    assert not gradient.any()
    loss, metrics = PolicyLoss(**options)(policy, rollout, credit, nothing, 0, 0)
    assert float(loss) == 0
    assert all(float(mean.count) == 0 for mean in metrics.values())


@every_option
def test_log_probs_far_apart_stay_finite(options):
    credit, mask = torch.tensor([[1.0, -1.0]]), torch.tensor([[True, True]])
    for gap in (-500.0, 500.0):
        policy = torch.full((1, 2), gap)
        loss, gradient = loss_and_gradient(policy, torch.zeros(1, 2), credit, mask, **options)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_metrics_worked_out_by_hand():
    # ratios 1.5 (A > 0: clipped above), 0.5 (A < 0: clipped below), 0.5 (A > 0: not clipped), 1
    ratios = double([[1.5, 0.5, 0.5, 1.0]])
    credit, mask = double([[1, -1, 1, 1]]), torch.ones(1, 4, dtype=torch.bool)
    _, metrics = PolicyLoss()(ratios.log(), torch.zeros_like(ratios), credit, mask, 8, 2)
    expected = {
        "loss/policy": (-1.28 + 0.8 - 0.5 - 1) / 4,
        "loss/ratio_mean": 3.5 / 4,
        "loss/clip_high_fraction": 0.25,
        "loss/clip_low_fraction": 0.25,
        "loss/approx_kl": -(math.log(1.5) + 2 * math.log(0.5)) / 4,
        "loss/sampler_gap": (math.log(1.5) + 2 * math.log(2)) / 4,
    }
    assert {name: float(mean) for name, mean in metrics.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ratio": "word"}, "loss.ratio"),
        ({"kind": "reinforce"}, "loss.kind"),
        ({"reduction": "mean"}, "loss.reduction"),
        ({"clip_low": 1.0}, "loss.clip_low"),
        ({"clip_low": 0.0}, "loss.clip_low"),
        ({"clip_high": 0.0}, "loss.clip_high"),
        ({"dual_clip": 1.0}, "loss.dual_clip"),
    ],
)
def test_an_option_out_of_its_range_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        PolicyLoss(**options)


@pytest.mark.parametrize("option", ["ratio", "kind", "reduction"])
def test_the_function_refuses_an_unknown_option_too(option):
    with pytest.raises(ValueError, match=option):
        loss_and_gradient(*random_batch(), **{option: "other"})


def test_a_dual_clip_without_effect_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        PolicyLoss(kind="cispo", dual_clip=None)
        assert not caplog.records
        PolicyLoss(kind="cispo")
    assert "loss.dual_clip" in caplog.text


def test_one_advantage_per_completion_is_refused():
    policy, rollout, credit, mask = random_batch()
    with pytest.raises(ValueError, match=r"rlsd_lightning\.credit"):
        clipped_policy_loss(policy, rollout, credit[:, 0], mask, **CLIP)
