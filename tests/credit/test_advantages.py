import math

import pytest
import torch

from rlsd_lightning.credit import group_advantages
from rlsd_lightning.credit.advantages import GroupAdvantages

every_estimator = pytest.mark.parametrize("estimator", ["grpo", "dr_grpo", "rloo"])


def test_a_hand_computed_group():
    # mean 2, deviations -1 0 1, std with n - 1 = sqrt(2 / 2) = 1
    advantages = group_advantages(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    expected = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64) / (1 + 1e-6)
    torch.testing.assert_close(advantages, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("dr_grpo", [-1.0, -1.0, 2.0]),  # mean 2
        ("rloo", [-1.5, -1.5, 3.0]),  # means of the others 2.5, 2.5 and 1
    ],
)
def test_hand_computed_groups_of_the_other_estimators(estimator, expected):
    rewards = torch.tensor([[1.0, 1.0, 4.0]], dtype=torch.float64)
    advantages = group_advantages(rewards, estimator=estimator)
    expected = torch.tensor([expected], dtype=torch.float64)
    torch.testing.assert_close(advantages, expected, atol=1e-12, rtol=0)


@every_estimator
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.9, 0.1, 1 / 3, -2.7])
def test_equal_rewards_give_exactly_zero_in_float32(reward, estimator):
    rewards = torch.full((3, 8), reward, dtype=torch.float32)
    advantages = group_advantages(rewards, estimator=estimator)
    assert torch.equal(advantages, torch.zeros(3, 8))


def test_rewards_that_differ_a_little_still_count():
    rewards = torch.tensor([[0.9, 0.9, 0.9, 0.9001]])
    assert (group_advantages(rewards)[0, 3] > 1.0).item()


@every_estimator
def test_a_permuted_group_gets_permuted_advantages(estimator):
    rewards = torch.rand(4, 6, dtype=torch.float64)
    order = torch.randperm(6)
    expected = group_advantages(rewards, estimator=estimator)[:, order]
    found = group_advantages(rewards[:, order], estimator=estimator)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@every_estimator
def test_the_advantages_of_a_group_add_up_to_zero(estimator):
    rewards = torch.rand(4, 6, dtype=torch.float64)
    sums = group_advantages(rewards, estimator=estimator).sum(1)
    torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-12, rtol=0)


@pytest.mark.parametrize("estimator", ["dr_grpo", "rloo"])
def test_without_the_standard_deviation_a_closer_group_counts_less(estimator):
    rewards = torch.tensor([[0.0, 1.0], [0.0, 0.25]])
    advantages = group_advantages(rewards, estimator=estimator)
    assert torch.equal(advantages[1], advantages[0] / 4)


def test_groups_do_not_touch_each_other():
    rewards = torch.rand(5, 4, dtype=torch.float64)
    apart = torch.cat([group_advantages(row[None]) for row in rewards])
    assert torch.equal(group_advantages(rewards), apart)


@every_estimator
def test_completions_that_could_not_be_judged_leave_the_statistics(estimator):
    rewards = torch.tensor([[1.0, 0.0, 7.0, 0.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, False, True]])
    advantages = group_advantages(rewards, valid=valid, estimator=estimator)
    judged = group_advantages(rewards[valid][None], estimator=estimator)
    torch.testing.assert_close(advantages[valid][None], judged, atol=1e-12, rtol=0)
    assert advantages[0, 2] == 0


def test_a_reward_that_is_not_valid_may_be_nan():
    rewards = torch.tensor([[1.0, float("nan"), 0.0]])
    advantages = group_advantages(rewards, valid=torch.tensor([[True, False, True]]))
    torch.testing.assert_close(
        advantages, torch.tensor([[0.5**0.5, 0.0, -(0.5**0.5)]]), atol=1e-5, rtol=0
    )


@every_estimator
@pytest.mark.parametrize("num_valid", [0, 1])
def test_fewer_than_two_valid_completions_give_zero(num_valid, estimator):
    valid = torch.arange(4)[None] < num_valid
    rewards = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    advantages = group_advantages(rewards, valid=valid, estimator=estimator)
    assert torch.equal(advantages, torch.zeros(1, 4))


@every_estimator
def test_equal_valid_rewards_give_zero_whatever_the_others_are(estimator):
    rewards = torch.tensor([[0.9, 0.9, 0.0, 0.9]])
    valid = torch.tensor([[True, True, False, True]])
    advantages = group_advantages(rewards, valid=valid, estimator=estimator)
    assert torch.equal(advantages, torch.zeros(1, 4))


@every_estimator
def test_the_slow_obvious_reference(estimator):
    generator = torch.Generator().manual_seed(3)
    rewards = torch.rand(20, 5, generator=generator, dtype=torch.float64).mul(4).round().div(4)
    valid = torch.rand(20, 5, generator=generator) < 0.8
    advantages = group_advantages(rewards, eps=1e-4, valid=valid, estimator=estimator)
    for row, keep, found in zip(rewards.tolist(), valid.tolist(), advantages.tolist(), strict=True):
        judged = [reward for reward, ok in zip(row, keep, strict=True) if ok]
        for reward, ok, value in zip(row, keep, found, strict=True):
            if not ok or len(set(judged)) < 2:
                assert value == 0
                continue
            assert value == pytest.approx(slow_advantage(reward, judged, estimator), abs=1e-12)


def slow_advantage(reward, judged, estimator):
    mean = sum(judged) / len(judged)
    if estimator == "dr_grpo":
        return reward - mean
    if estimator == "rloo":
        others = list(judged)
        others.remove(reward)
        return reward - sum(others) / len(others)
    std = math.sqrt(sum((other - mean) ** 2 for other in judged) / (len(judged) - 1))
    return (reward - mean) / (std + 1e-4)


@every_estimator
def test_the_class_for_configs_is_the_function(estimator):
    rewards, valid = torch.rand(3, 5), torch.rand(3, 5) < 0.8
    found = GroupAdvantages(estimator=estimator, eps=0.1)(rewards, valid)
    assert torch.equal(found, group_advantages(rewards, 0.1, valid, estimator))


def test_the_class_is_grpo_with_every_completion_valid_unless_told():
    rewards = torch.rand(3, 5)
    assert torch.equal(GroupAdvantages()(rewards), group_advantages(rewards))


def test_an_unknown_estimator_is_refused_by_both():
    with pytest.raises(ValueError, match="estimator is 'gae'"):
        GroupAdvantages(estimator="gae")
    with pytest.raises(ValueError, match="estimator is 'gae'"):
        group_advantages(torch.rand(2, 2), estimator="gae")


def test_an_eps_below_zero_is_refused():
    with pytest.raises(ValueError, match="eps"):
        GroupAdvantages(eps=-1e-6)


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="group_size"):
        group_advantages(torch.ones(3, 1))


def test_a_flat_list_of_rewards_is_refused():
    with pytest.raises(ValueError, match="row"):
        group_advantages(torch.ones(8))


def test_a_valid_reward_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        group_advantages(torch.tensor([[1.0, float("nan")]]))
