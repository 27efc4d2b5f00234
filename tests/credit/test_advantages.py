import math

import pytest
import torch

from rlsd_lightning.credit import group_advantages


def test_a_hand_computed_group():
    # mean 2, deviations -1 0 1, std with n - 1 = sqrt(2 / 2) = 1
    advantages = group_advantages(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    expected = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64) / (1 + 1e-6)
    torch.testing.assert_close(advantages, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.9, 0.1, 1 / 3, -2.7])
def test_equal_rewards_give_exactly_zero_in_float32(reward):
    advantages = group_advantages(torch.full((3, 8), reward, dtype=torch.float32))
    assert torch.equal(advantages, torch.zeros(3, 8))


def test_rewards_that_differ_a_little_still_count():
    rewards = torch.tensor([[0.9, 0.9, 0.9, 0.9001]])
    assert (group_advantages(rewards)[0, 3] > 1.0).item()


def test_a_permuted_group_gets_permuted_advantages():
    rewards = torch.rand(4, 6, dtype=torch.float64)
    order = torch.randperm(6)
    expected = group_advantages(rewards)[:, order]
    torch.testing.assert_close(group_advantages(rewards[:, order]), expected, atol=1e-12, rtol=0)


def test_groups_do_not_touch_each_other():
    rewards = torch.rand(5, 4, dtype=torch.float64)
    apart = torch.cat([group_advantages(row[None]) for row in rewards])
    assert torch.equal(group_advantages(rewards), apart)


def test_completions_that_could_not_be_judged_leave_the_statistics():
    rewards = torch.tensor([[1.0, 0.0, 7.0, 0.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, False, True]])
    advantages = group_advantages(rewards, valid=valid)
    judged = group_advantages(rewards[valid][None])
    torch.testing.assert_close(advantages[valid][None], judged, atol=1e-12, rtol=0)
    assert advantages[0, 2] == 0


def test_a_reward_that_is_not_valid_may_be_nan():
    rewards = torch.tensor([[1.0, float("nan"), 0.0]])
    advantages = group_advantages(rewards, valid=torch.tensor([[True, False, True]]))
    torch.testing.assert_close(
        advantages, torch.tensor([[0.5**0.5, 0.0, -(0.5**0.5)]]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("num_valid", [0, 1])
def test_fewer_than_two_valid_completions_give_zero(num_valid):
    valid = torch.arange(4)[None] < num_valid
    advantages = group_advantages(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), valid=valid)
    assert torch.equal(advantages, torch.zeros(1, 4))


def test_equal_valid_rewards_give_zero_whatever_the_others_are():
    rewards = torch.tensor([[0.9, 0.9, 0.0, 0.9]])
    advantages = group_advantages(rewards, valid=torch.tensor([[True, True, False, True]]))
    assert torch.equal(advantages, torch.zeros(1, 4))


def test_the_slow_obvious_reference():
    generator = torch.Generator().manual_seed(3)
    rewards = torch.rand(20, 5, generator=generator, dtype=torch.float64).mul(4).round().div(4)
    valid = torch.rand(20, 5, generator=generator) < 0.8
    advantages = group_advantages(rewards, eps=1e-4, valid=valid)
    for row, keep, found in zip(rewards.tolist(), valid.tolist(), advantages.tolist(), strict=True):
        judged = [reward for reward, ok in zip(row, keep, strict=True) if ok]
        for reward, ok, value in zip(row, keep, found, strict=True):
            if not ok or len(set(judged)) < 2:
                assert value == 0
                continue
            mean = sum(judged) / len(judged)
            std = math.sqrt(sum((other - mean) ** 2 for other in judged) / (len(judged) - 1))
            assert value == pytest.approx((reward - mean) / (std + 1e-4), abs=1e-12)


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="group_size"):
        group_advantages(torch.ones(3, 1))


def test_a_flat_list_of_rewards_is_refused():
    with pytest.raises(ValueError, match="row"):
        group_advantages(torch.ones(8))


def test_a_valid_reward_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        group_advantages(torch.tensor([[1.0, float("nan")]]))
