import json
import logging
import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from rlsd_lightning.loss import PolicyLoss, clipped_policy_loss, importance_weights, kl_to_anchor
from rlsd_lightning.metrics import Maximum, StepMetrics

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
    largest = metrics.pop("loss/importance_max")
    assert isinstance(largest, Maximum)
    assert float(largest) == 0
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
        # w - 1 - log w of 1.5, 0.5, 0.5 and 1
        "loss/sampler_kl": (0.5 - math.log(1.5) + 2 * (math.log(2) - 0.5)) / 4,
        "loss/importance_mean": 3.5 / 4,
        "loss/importance_max": 1.5,
        "loss/importance_capped_fraction": 0.0,
    }
    assert {name: float(mean) for name, mean in metrics.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ratio": "word"}, "loss.ratio"),
        ({"kind": "reinforce"}, "loss.kind"),
        ({"reduction": "mean"}, "loss.reduction"),
        ({"clip_low": 1.1}, "loss.clip_low"),
        ({"clip_low": 0.0}, "loss.clip_low"),
        ({"clip_high": 0.0}, "loss.clip_high"),
        ({"dual_clip": 1.0}, "loss.dual_clip"),
        ({"importance_cap": 0.9}, "loss.importance_cap"),
        ({"kl_weight": -0.1}, "loss.kl_weight"),
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


def counts_of(mask):
    return {"num_tokens": int(mask.sum()), "num_completions": int(mask.any(1).sum())}


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_an_importance_cap_weighs_each_token_by_its_truncated_mismatch(ratio):
    # mismatches 1.5 and 5 (cut at 2): on policy the gradient is -A / 2, times the weight
    policy, rollout = double([[-1.0, -1.0]]), double([[-1 - math.log(1.5), -1 - math.log(5)]])
    credit, mask = double([[1.0, -3.0]]), torch.tensor([[True, True]])
    options = {"ratio": ratio, "importance_cap": 2.0}
    loss, gradient = loss_and_gradient(policy, rollout, credit, mask, **options)
    torch.testing.assert_close(gradient, double([[-1.5 / 2, 6.0 / 2]]), atol=1e-12, rtol=0)
    assert float(loss) == pytest.approx((-1.5 + 6.0) / 2, abs=1e-12)


@every_option
def test_without_a_mismatch_an_importance_cap_changes_nothing(options):
    policy, _, credit, mask = random_batch()
    plain = loss_and_gradient(policy, policy, credit, mask, **options)
    capped = loss_and_gradient(policy, policy, credit, mask, importance_cap=2.0, **options)
    torch.testing.assert_close(capped, plain, atol=1e-12, rtol=0)


@every_option
def test_an_importance_weight_carries_no_gradient_and_padding_reaches_none(options):
    policy, rollout, credit, mask = random_batch()
    options = {"importance_cap": 1.3, **options}
    _, gradient = loss_and_gradient(policy, rollout, credit, mask, **options)
    weights = (policy - rollout).exp().clamp(max=1.3)
    lengths = mask.sum(1, keepdim=True).double().clamp(min=1) * mask.any(1).sum()
    share = 1 / (lengths if options["reduction"] == "sequence" else mask.sum().double())
    expected = torch.where(mask, -credit * weights * share, 0.0)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)
    junk = [tensor.masked_fill(~mask, float("nan")) for tensor in (policy, rollout, credit)]
    _, found = loss_and_gradient(*junk, mask, **options)
    assert torch.equal(found, gradient)


def test_importance_weights_are_bounded_and_constant():
    policy = torch.tensor([[500.0, 0.0, -1.0]], requires_grad=True)
    rollout = torch.tensor([[0.0, 0.0, float("nan")]])
    weights = importance_weights(policy, rollout, torch.tensor([[True, True, False]]))
    assert not weights.requires_grad
    assert weights.isfinite().all()
    assert weights[0, 1:].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("cap", "ratio_mean", "capped"), [(None, 7.5 / 4, 0.25), (3.0, 1.0, 0.25), (1.2, 1.0, 0.5)]
)
def test_the_mismatch_is_logged_whether_it_is_corrected_or_not(cap, ratio_mean, capped):
    # weights 1.5, 4, 1, 1; without a cap the usual one of 2 is counted by
    policy = double([[1.5, 4.0, 1.0, 1.0, 9.0]]).log()
    mask = torch.tensor([[True, True, True, True, False]])
    _, metrics = PolicyLoss(importance_cap=cap)(
        policy, torch.zeros_like(policy), torch.ones_like(policy), mask, **counts_of(mask)
    )
    found = {name.removeprefix("loss/"): float(value) for name, value in metrics.items()}
    assert found["importance_mean"] == pytest.approx(7.5 / 4, abs=1e-12)
    assert found["importance_max"] == pytest.approx(4.0, abs=1e-12)
    assert found["importance_capped_fraction"] == capped
    kl = (0.5 - math.log(1.5) + 3 - math.log(4)) / 4
    assert found["sampler_kl"] == pytest.approx(kl, abs=1e-12)
    assert found["sampler_gap"] == pytest.approx((math.log(1.5) + math.log(4)) / 4, abs=1e-12)
    assert found["ratio_mean"] == pytest.approx(ratio_mean, abs=1e-12)


def test_the_largest_weight_of_a_step_is_that_of_its_micro_batches():
    policy, rollout, credit, mask = random_batch()
    _, whole = PolicyLoss()(policy, rollout, credit, mask, **counts_of(mask))
    step = StepMetrics()
    for row in range(len(policy)):
        part = (tensor[row : row + 1] for tensor in (policy, rollout, credit, mask))
        step.add(PolicyLoss()(*part, **counts_of(mask))[1])
    largest = float((policy - rollout)[mask].max().exp())
    assert float(whole["loss/importance_max"]) == pytest.approx(largest, abs=1e-12)
    assert step.reduce()["loss/importance_max"] == pytest.approx(largest, abs=1e-12)


def test_kl_to_the_anchor_worked_out_by_hand():
    # q - p = log 2: 2 - log 2 - 1, and d/dp = 1 - 2; q - p = -log 2: 1/2 + log 2 - 1, and d/dp = 1/2
    policy = double([[-1.0, -1.0, -1.0]]).requires_grad_()
    anchor = double([[-1 + math.log(2), -1 - math.log(2), float("nan")]])
    kl = kl_to_anchor(policy, anchor, torch.tensor([[True, True, False]]))
    expected = double([[1 - math.log(2), math.log(2) - 0.5, 0.0]])
    torch.testing.assert_close(kl, expected, atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(kl.sum(), policy)
    torch.testing.assert_close(gradient, double([[-1.0, 0.5, 0.0]]), atol=1e-12, rtol=0)


def test_kl_to_the_anchor_estimates_the_kl_and_is_never_below_zero():
    """Its mean over all tokens, each as often as the policy draws it, is the KL itself."""
    policy = double([0.5, 0.3, 0.2]).log()[None]
    anchor = double([0.2, 0.2, 0.6]).log()[None]
    kl = kl_to_anchor(policy, anchor, torch.ones(1, 3, dtype=torch.bool))
    exact = (policy.exp() * (policy - anchor)).sum()
    torch.testing.assert_close((policy.exp() * kl).sum(), exact, atol=1e-12, rtol=0)
    assert (kl >= 0).all()


def test_kl_to_an_anchor_far_away_stays_finite():
    policy = torch.tensor([[-500.0, 0.0]], requires_grad=True)
    anchor, mask = torch.tensor([[0.0, -500.0]]), torch.tensor([[True, True]])
    kl = kl_to_anchor(policy, anchor, mask)
    assert kl.isfinite().all()
    assert torch.autograd.grad(kl.sum(), policy)[0].isfinite().all()


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_the_kl_is_averaged_as_the_loss_is_and_adds_up_over_micro_batches(reduction):
    policy, rollout, credit, mask = random_batch()
    anchor = policy + 0.3 * torch.randn(policy.shape, dtype=torch.float64)
    counts = counts_of(mask)
    loss = PolicyLoss(reduction=reduction, kl_weight=0.5)
    assert loss.needs_anchor
    total, metrics = loss(policy, rollout, credit, mask, **counts, anchor_logprobs=anchor)
    without, _ = PolicyLoss(reduction=reduction)(policy, rollout, credit, mask, **counts)
    kl = kl_to_anchor(policy, anchor, mask)
    mean = kl.sum() / mask.sum()
    if reduction == "sequence":
        mean = (kl.sum(1)[mask.any(1)] / mask.sum(1)[mask.any(1)]).mean()
    assert float(total - without) == pytest.approx(0.5 * float(mean), abs=1e-12)
    assert float(metrics["loss/kl"]) == pytest.approx(float(mean), abs=1e-12)
    assert float(metrics["loss/policy"]) == pytest.approx(float(without), abs=1e-12)
    parts = [
        loss(
            *(t[rows] for t in (policy, rollout, credit, mask)),
            **counts,
            anchor_logprobs=anchor[rows],
        )[0]
        for rows in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), total, atol=1e-12, rtol=0)


def test_a_kl_without_an_anchor_is_refused_and_none_is_needed_without_one():
    policy, rollout, credit, mask = random_batch()
    assert not PolicyLoss().needs_anchor
    with pytest.raises(ValueError, match=r"loss\.kl_weight"):
        PolicyLoss(kl_weight=0.1)(policy, rollout, credit, mask, **counts_of(mask))


def test_gspo_is_the_sequence_ratio_differentiated_by_autograd():
    """GSPO as the paper writes it: one ratio s per completion, the gradient through s itself."""
    policy, rollout, credit, mask = random_batch()
    policy = rollout + 1e-3 * (policy - rollout)  # near the narrow band, some inside it
    advantages = credit[:, :1].expand_as(credit)
    bounds = {"clip_low": 3e-4, "clip_high": 4e-4, "dual_clip": None}
    found, gradient = loss_and_gradient(
        policy, rollout, advantages, mask, ratio="sequence", reduction="sequence", **bounds
    )
    leaf = policy.clone().requires_grad_()
    losses = []
    for b in range(len(mask)):
        if mask[b].any():
            ratio = (leaf[b] - rollout[b])[mask[b]].mean().exp()
            clipped = ratio.clamp(1 - 3e-4, 1 + 4e-4)
            losses.append(-torch.minimum(ratio * credit[b, 0], clipped * credit[b, 0]))
    loss = torch.stack(losses).mean()
    torch.testing.assert_close(found, loss.detach(), atol=1e-12, rtol=0)
    (expected,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)
    reached = gradient.ne(0).any(1)
    assert reached.any()
    assert not reached[mask.any(1)].all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ppo_clip", {"ratio": "token", "kind": "ppo", "reduction": "token", **CLIP}),
        (
            "gspo",
            {
                "ratio": "sequence",
                "kind": "ppo",
                "reduction": "sequence",
                "clip_low": 3e-4,
                "clip_high": 4e-4,
                "dual_clip": None,
            },
        ),
        (
            "cispo",
            {
                "ratio": "token",
                "kind": "cispo",
                "reduction": "token",
                "clip_low": 1.0,
                "clip_high": 4.0,
                "dual_clip": None,
            },
        ),
    ],
)
def test_each_yaml_builds_the_loss_of_its_name(name, expected, caplog):
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        loss = instantiate(compose("config", [f"loss={name}"]).loss)
    expected = {"importance_cap": None, "kl_weight": 0.0} | expected
    assert vars(loss) == expected
    assert not caplog.records


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_another_term_can_be_averaged_as_the_loss_is(reduction):
    policy, _, credit, mask = random_batch()
    loss, counts = PolicyLoss(reduction=reduction), counts_of(mask)
    on_policy, _ = loss(policy, policy, credit, mask, **counts)
    shares = [
        loss.mean_over_step(credit[rows], mask[rows], **counts)
        for rows in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(shares), -on_policy, atol=1e-12, rtol=0)
    assert float(loss.mean_over_step(credit, torch.zeros_like(mask), 0, 0)) == 0
