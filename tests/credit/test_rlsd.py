import json
import math
from pathlib import Path

import pytest
import torch

from rlsd_lightning.credit import evidence_weights, group_advantages, rlsd_credit
from rlsd_lightning.credit.rlsd import RLSDCredit
from rlsd_lightning.interfaces import CreditAssigner
from rlsd_lightning.metrics import StepMetrics
from rlsd_lightning.types import CreditNeeds

# Computed in float64 with the method's released implementation (arXiv:2604.03128); see its "note".
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden_rlsd.json").read_text())["credit"]
NAN, INF = float("nan"), float("inf")


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def random_batch(num_completions=6, num_tokens=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    policy = -3 * torch.rand(num_completions, num_tokens, generator=generator, dtype=torch.float64)
    noise = torch.randn(policy.shape, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, num_tokens + 1, (num_completions, 1), generator=generator)
    advantages = torch.randn(num_completions, generator=generator, dtype=torch.float64)
    advantages[0] = 0.0
    return advantages, policy, policy + 0.4 * noise, torch.arange(num_tokens) < lengths


@pytest.fixture(params=GOLDEN, ids=lambda case: f"case{case['seed']}")
def golden(request):
    return request.param


def golden_credit(case):
    span = case["thought_mask"]
    return rlsd_credit(
        group_advantages(double(case["rewards"]).view(2, 3)).flatten(),
        double(case["student_logprobs"]),
        double(case["teacher_logprobs"]),
        torch.tensor(case["mask"], dtype=torch.bool),
        lambda_=case["lam"],
        clip_range=case["clip_range"],
        negative_only=case["negative_only"],
        span_mask=None if span is None else torch.tensor(span, dtype=torch.bool),
    )


def test_the_released_group_advantages_are_reproduced(golden):
    found = group_advantages(double(golden["rewards"]).view(2, 3)).flatten()
    torch.testing.assert_close(found, double(golden["group_advantage"]), atol=1e-6, rtol=0)


def test_the_released_token_advantages_are_reproduced(golden):
    found = golden_credit(golden)
    torch.testing.assert_close(found, double(golden["token_advantage"]), atol=1e-6, rtol=0)


def test_the_released_metrics_are_reproduced(golden):
    """Theirs average over all tokens, ours over those whose advantage is not 0: the others have weight 1."""
    advantages = double(golden["group_advantage"])
    policy, teacher = double(golden["student_logprobs"]), double(golden["teacher_logprobs"])
    mask = torch.tensor(golden["mask"], dtype=torch.bool)
    method = RLSDCredit(golden["clip_range"], golden["negative_only"])
    method.lambda_ = golden["lam"]
    _, ours = method(advantages, policy, teacher, mask)
    theirs = golden["metrics"]
    num_tokens, neutral = int(mask.sum()), mask & (advantages == 0)[:, None]
    num_neutral, neutral_gain = int(neutral.sum()), float((teacher - policy)[neutral].sum())

    def over_all_tokens(name, neutral_total):
        mean = ours[name]
        assert float(mean.count) == num_tokens - num_neutral
        return pytest.approx((float(mean.total) + neutral_total) / num_tokens, abs=1e-6)

    assert theirs["stgca_delta_mean"] == over_all_tokens("credit/gain_mean", neutral_gain)
    assert theirs["stgca_weight_mean"] == over_all_tokens("credit/weight_mean", num_neutral)
    clipped = theirs["stgca_clip_low_ratio"] + theirs["stgca_clip_high_ratio"]
    assert clipped == over_all_tokens("credit/clipped_fraction", 0)
    weights = evidence_weights(teacher - policy, advantages, golden["clip_range"])
    assert theirs["stgca_clipped_weight_mean"] == pytest.approx(
        float(weights[mask].mean()), abs=1e-6
    )
    credit = golden_credit(golden)[mask]
    assert theirs["stgca_adv_mean"] == pytest.approx(float(credit.mean()), abs=1e-6)
    assert theirs["stgca_adv_abs_mean"] == pytest.approx(float(credit.abs().mean()), abs=1e-6)
    if golden["thought_mask"] is None:
        assert theirs["stgca_adv_abs_mean"] == pytest.approx(
            float(ours["credit/abs_mean"]), abs=1e-6
        )


def test_numbers_worked_out_by_hand():
    # A = 2:  gains ln 1.1, ln 2, ln 0.5 -> w = 1.1, clip(2) = 1.2, clip(0.5) = 0.8; r at lambda 0.5 = 1.05, 1.1, 0.9
    # A = -1: the sign turns the gain: w = 1/1.1, clip(0.5) = 0.8, clip(2) = 1.2; r = 0.5 + 0.5/1.1, 0.9, 1.1
    gain = double([math.log(1.1), math.log(2), math.log(0.5)]).expand(2, 3)
    mask = torch.ones(2, 3, dtype=torch.bool)
    found = rlsd_credit(double([2, -1]), torch.zeros_like(gain), gain, mask, 0.5, 0.2)
    expected = double([[2.1, 2.2, 1.8], [-(0.5 + 0.5 / 1.1), -0.9, -1.1]])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("negative_only", [False, True])
def test_the_slow_obvious_reference(negative_only):
    advantages, policy, teacher, mask = random_batch()
    span = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    found = rlsd_credit(advantages, policy, teacher, mask, 0.7, 0.3, negative_only, span)
    for b in range(mask.shape[0]):
        for t in range(mask.shape[1]):
            advantage = float(advantages[b])
            sign = (advantage > 0) - (advantage < 0)
            weight = math.exp(sign * float(teacher[b, t] - policy[b, t]))
            ratio = 1 - 0.7 + 0.7 * min(max(weight, 0.7), 1.3)
            if not span[b, t] or (negative_only and advantage > 0):
                ratio = 1.0
            expected = advantage * ratio if mask[b, t] else 0.0
            assert float(found[b, t]) == pytest.approx(expected, abs=1e-12)


def test_lambda_zero_is_grpo_bit_for_bit_whatever_the_teacher_says():
    advantages, policy, _, mask = random_batch()
    advantages, policy = advantages.float(), policy.float()
    teacher = torch.full_like(policy, NAN)
    found = rlsd_credit(advantages, policy, teacher, mask, lambda_=0.0, clip_range=0.2)
    assert torch.equal(found, torch.where(mask, advantages[:, None], 0.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clip_range", [0.0, 0.2])
def test_weights_of_one_are_grpo_bit_for_bit_at_every_lambda(clip_range, dtype):
    """Clip range 0, or a teacher that says what the policy says."""
    advantages, policy, teacher, mask = (t.to(dtype) for t in random_batch())
    mask, teacher = mask.bool(), policy if clip_range else teacher
    plain = torch.where(mask, advantages[:, None], 0.0)
    for step in range(1, 61):
        found = rlsd_credit(advantages, policy, teacher, mask, step / 61, clip_range)
        assert torch.equal(found, plain)


def test_equal_rewards_give_exactly_no_credit():
    _, policy, teacher, mask = random_batch()
    advantages = group_advantages(torch.full((2, 3), 0.9)).flatten()
    assert not rlsd_credit(advantages, policy, teacher, mask, 1.0, 0.2).any()


def test_the_verdict_alone_decides_the_direction():
    advantages, policy, teacher, mask = random_batch()
    found = rlsd_credit(advantages, policy, teacher + 5, mask, 1.0, 0.99)
    assert torch.equal(found.sign(), torch.where(mask, advantages.sign()[:, None], 0.0))


@pytest.mark.parametrize("gain", [100.0, -100.0, INF, -INF])
def test_an_extreme_gain_gives_the_clip_bound_and_finite_metrics(gain):
    policy, mask = torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool)
    method = RLSDCredit(clip_range=0.2)
    method.lambda_ = 1.0
    advantages = torch.tensor([1.0, -1.0])
    credit, metrics = method(advantages, policy, torch.full_like(policy, gain), mask)
    up, down = (1.2, 0.8) if gain > 0 else (0.8, 1.2)
    torch.testing.assert_close(credit, torch.tensor([[up, up], [-down, -down]]), atol=1e-6, rtol=0)
    finite = {name for name, mean in metrics.items() if math.isfinite(float(mean))}
    assert finite == set(metrics) - ({"credit/gain_mean"} if math.isinf(gain) else set())


@pytest.mark.parametrize("junk", [NAN, INF, -INF])
def test_junk_at_masked_places_changes_nothing(junk):
    advantages, policy, teacher, mask = random_batch()
    method = RLSDCredit(clip_range=0.2)
    method.lambda_ = 0.5
    clean, clean_metrics = method(advantages, policy, teacher, mask)
    for one, other in (
        (policy, teacher.masked_fill(~mask, junk)),
        (policy.masked_fill(~mask, junk), teacher),
    ):
        credit, metrics = method(advantages, one, other, mask)
        assert torch.equal(credit, clean)
        assert {k: float(m) for k, m in metrics.items()} == {
            k: float(m) for k, m in clean_metrics.items()
        }
    assert not clean[~mask].any()


def test_completions_without_an_advantage_need_no_teacher_logprobs():
    advantages, policy, teacher, mask = random_batch()
    method = RLSDCredit(clip_range=0.2)
    method.lambda_ = 0.5
    teacher[advantages == 0] = NAN
    credit, metrics = method(advantages, policy, teacher, mask)
    assert credit.isfinite().all()
    assert all(math.isfinite(float(mean)) for mean in metrics.values())
    assert torch.equal(
        evidence_weights(torch.full((1, 2), NAN), torch.zeros(1), 0.2), torch.ones(1, 2)
    )


def test_tokens_that_are_not_weighed_need_no_teacher_logprobs():
    advantages, policy, teacher, mask = random_batch()
    span = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    clean = rlsd_credit(advantages, policy, teacher, mask, 0.5, 0.2, True, span)
    teacher[~span | (advantages > 0)[:, None]] = NAN
    assert torch.equal(rlsd_credit(advantages, policy, teacher, mask, 0.5, 0.2, True, span), clean)


def test_extra_padding_changes_nothing():
    advantages, policy, teacher, mask = random_batch()
    pad = torch.nn.functional.pad
    padded = rlsd_credit(
        advantages,
        pad(policy, (0, 4)),
        pad(teacher, (0, 4), value=NAN),
        pad(mask, (0, 4)),
        0.5,
        0.2,
    )
    assert torch.equal(padded[:, :-4], rlsd_credit(advantages, policy, teacher, mask, 0.5, 0.2))
    assert not padded[:, -4:].any()


def test_no_gradient_flows_through_the_credit():
    advantages, policy, teacher, mask = random_batch()
    inputs = [tensor.requires_grad_() for tensor in (advantages, policy, teacher)]
    assert not rlsd_credit(*inputs, mask, 0.5, 0.2).requires_grad
    assert not evidence_weights(teacher - policy, advantages, 0.2).requires_grad


def test_micro_batches_add_up_to_the_metrics_of_the_batch():
    advantages, policy, teacher, mask = random_batch()
    method = RLSDCredit(clip_range=0.2)
    method.lambda_ = 0.5
    credit, whole = method(advantages, policy, teacher, mask)
    step, parts = StepMetrics(), []
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        part, metrics = method(advantages[rows], policy[rows], teacher[rows], mask[rows])
        step.add(metrics)
        parts.append(part)
    assert torch.equal(torch.cat(parts), credit)
    assert step.reduce() == pytest.approx(
        {name: float(mean) for name, mean in whole.items()}, abs=1e-9
    )


def test_metrics_worked_out_by_hand():
    # gains ln 2 and 0 for A = 1 (w 2, 1 -> clipped 1.2, 1), ln 2 for A = -1 (w 0.5 -> clipped 0.8), lambda 0.5
    method = RLSDCredit(clip_range=0.2)
    method.lambda_ = 0.5
    teacher = double([[math.log(2), 0], [math.log(2), 9], [5, 5]])
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    _, metrics = method(double([1, -1, 0]), torch.zeros(3, 2, dtype=torch.float64), teacher, mask)
    expected = {
        "credit/gain_mean": 2 * math.log(2) / 3,
        "credit/weight_mean": (2 + 1 + 0.5) / 3,
        "credit/clipped_fraction": 2 / 3,
        "credit/weight_mean_positive": (1.1 + 1) / 2,
        "credit/weight_mean_negative": 0.9,
        "credit/abs_mean": (1.1 + 1 + 0.9 + 0 + 0) / 5,
        "credit/lambda": 0.5,
    }
    assert {name: float(mean) for name, mean in metrics.items()} == pytest.approx(
        expected, abs=1e-9
    )


def test_metric_names_are_the_same_with_and_without_a_teacher():
    advantages, policy, teacher, mask = random_batch()
    method = RLSDCredit()
    _, without = method(advantages, policy, None, mask)
    method.lambda_ = 0.5
    _, with_teacher = method(advantages, policy, teacher, mask)
    assert without.keys() == with_teacher.keys()
    for name in ("credit/gain_mean", "credit/weight_mean", "credit/clipped_fraction"):
        assert float(without[name].count) == 0
        assert float(with_teacher[name].count) > 0
    assert float(without["credit/weight_mean_positive"]) == 1.0


def test_it_is_a_credit_assigner_whose_need_follows_lambda_and_clip_range():
    method = RLSDCredit(clip_range=0.2)
    assert isinstance(method, CreditAssigner)
    assert not method.needs_teacher
    method.lambda_ = 0.1
    assert method.needs_teacher
    method.clip_range = 0.0
    assert not method.needs_teacher


def test_a_missing_teacher_is_refused_where_it_counts():
    advantages, policy, _, mask = random_batch()
    method = RLSDCredit()
    method.lambda_ = 0.5
    with pytest.raises(ValueError, match="teacher_logprobs"):
        method(advantages, policy, None, mask)


@pytest.mark.parametrize("clip_range", [-0.1, 1.0, NAN])
def test_a_clip_range_outside_its_range_is_refused(clip_range):
    with pytest.raises(ValueError, match="clip_range"):
        RLSDCredit(clip_range=clip_range)


def test_advantages_per_token_are_refused():
    _, policy, teacher, mask = random_batch()
    with pytest.raises(ValueError, match="One advantage per completion"):
        rlsd_credit(policy, policy, teacher, mask, 0.5, 0.2)


def test_mean_one_weights_neither_add_nor_take_credit():
    """Gains 0.1, 0, -9 at A = 2, clip 0.2: weights 1.10517, 1, 0.8 have the mean 0.96839."""
    credit = rlsd_credit(
        double([2.0]),
        double([[-1.0, -1.0, -1.0, -1.0]]),
        double([[-0.9, -1.0, -10.0, NAN]]),
        torch.tensor([[True, True, True, False]]),
        lambda_=1.0,
        clip_range=0.2,
        mean_one=True,
    )
    mean = (math.exp(0.1) + 1 + 0.8) / 3
    expected = [2 * math.exp(0.1) / mean, 2 / mean, 1.6 / mean, 0.0]
    assert credit[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_mean_one_weights_have_a_mean_of_one_over_the_weighed_tokens_of_every_completion():
    advantages, policy, teacher, mask = random_batch()
    span = mask & (torch.arange(mask.shape[1]) % 2 == 0)
    credit = rlsd_credit(advantages, policy, teacher, mask, 0.7, 0.5, False, span, mean_one=True)
    ratio = credit / advantages[:, None]
    for row in range(1, len(advantages)):
        assert float(ratio[row][span[row]].mean()) == pytest.approx(1.0)
        rest = mask[row] & ~span[row]
        assert torch.equal(credit[row][rest], advantages[row].expand(int(rest.sum())))


def test_the_contrast_takes_the_wrong_reference_for_the_bare_problem():
    advantages, policy, teacher, mask = random_batch()
    contrast = policy - 0.3
    credit = RLSDCredit(clip_range=0.5, evidence="contrast")
    credit.lambda_ = 0.8
    found, metrics = credit(advantages, policy, teacher, mask, contrast_logprobs=contrast)
    expected = rlsd_credit(advantages, contrast, teacher, mask, 0.8, 0.5)
    assert torch.equal(found, expected)
    scored = mask & (advantages != 0)[:, None]
    assert float(metrics["credit/gain_mean"]) == pytest.approx(
        float((teacher - contrast)[scored].mean())
    )


def test_a_token_that_any_reference_makes_likely_keeps_its_advantage_under_contrast():
    """An appeal to the reference: likely under the right one and under a wrong one alike."""
    credit = RLSDCredit(clip_range=0.5, evidence="contrast")
    credit.lambda_ = 1.0
    likely = torch.tensor([[-0.7]])
    found, _ = credit(
        torch.tensor([1.5]),
        torch.tensor([[-4.6]]),
        likely,
        torch.tensor([[True]]),
        contrast_logprobs=likely,
    )
    assert found.tolist() == [[1.5]]


def test_only_the_thought_is_weighed_where_a_span_is_given():
    advantages, policy, teacher, mask = random_batch()
    credit = RLSDCredit(thought_only=True)
    credit.lambda_ = 1.0
    span = torch.zeros_like(mask)
    span[:, :3] = True
    found, _ = credit(advantages, policy, teacher, mask, span_mask=span)
    assert torch.equal(found, rlsd_credit(advantages, policy, teacher, mask, 1.0, 0.2, False, span))
    outside = mask & ~span
    assert torch.equal(found[outside], advantages[:, None].expand_as(found)[outside])


def test_what_rlsd_asks_for_follows_from_its_settings():
    assert RLSDCredit().needs == CreditNeeds()
    assert RLSDCredit(evidence="contrast").needs == CreditNeeds(contrast=True)
    assert RLSDCredit(thought_only=True).needs == CreditNeeds(spans=True)


def test_an_unknown_evidence_is_refused():
    with pytest.raises(ValueError, match=r"credit\.evidence is 'guess'"):
        RLSDCredit(evidence="guess")


ONE_OF_EACH = torch.tensor([1.0, -1.0, 0.0])
BARE = torch.full((3, 3), -2.0)
TRUE = BARE + torch.tensor([0.1, 0.5, -0.5])
"""Weights exp(+-0.1) lie within 1 +- 0.2, exp(+-0.5) beyond."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [[False, True, True], [False, True, True], [False] * 3]),
        ({"negative_only": True}, [[False] * 3, [False, True, True], [False] * 3]),
        ({"mean_one": True}, [[False, True, True], [False, True, True], [False] * 3]),
        ({"clip_range": 0.7}, [[False] * 3] * 3),
    ],
)
def test_it_says_which_weights_were_held_at_the_clip(settings, expected):
    credit = RLSDCredit(**settings)
    credit.lambda_ = 0.5
    credit(ONE_OF_EACH, BARE, TRUE, torch.ones(3, 3, dtype=torch.bool))
    assert credit.clipped.tolist() == expected


def test_under_contrast_the_clip_is_that_of_the_contrast():
    credit = RLSDCredit(evidence="contrast")
    credit.lambda_ = 0.5
    mask = torch.ones(3, 3, dtype=torch.bool)
    credit(ONE_OF_EACH, BARE, TRUE, mask, contrast_logprobs=TRUE - 0.1)
    assert not credit.clipped.any()
    credit(ONE_OF_EACH, TRUE, TRUE, mask, contrast_logprobs=BARE)
    assert credit.clipped[:2].tolist() == [[False, True, True]] * 2


def test_nothing_is_clipped_outside_span_and_mask_or_at_lambda_zero():
    credit, mask = RLSDCredit(thought_only=True), torch.ones(3, 3, dtype=torch.bool)
    mask[:, 2] = False
    span = torch.tensor([[True, False, True]] * 3)
    credit.lambda_ = 0.5
    credit(ONE_OF_EACH, BARE, TRUE, mask, span_mask=span)
    assert not credit.clipped.any()
    credit(ONE_OF_EACH, BARE, TRUE, mask, span_mask=mask)
    assert credit.clipped.tolist() == [[False, True, False]] * 2 + [[False] * 3]
    credit.lambda_ = 0.0
    credit(ONE_OF_EACH, BARE, None, mask, span_mask=mask)
    assert not credit.clipped.any()
