"""Means that do not depend on how a step is cut into micro-batches and ranks."""

import pytest
import torch

from rlsd_lightning.metrics import Maximum, Mean, StepMetrics, masked_mean
from tests.helpers.ranks import run_ranks

NAN = float("nan")


def test_means_add_up_by_their_counts():
    """3 values of mean 2 and one of 4: 10 / 4, not (2 + 4) / 2."""
    assert float(Mean(6.0, 3) + Mean(4.0, 1)) == 2.5


def test_a_mean_of_nothing_is_zero():
    assert float(Mean(0.0, 0)) == 0.0


def test_a_masked_mean_leaves_out_what_is_masked_even_nan():
    values = torch.tensor([[1.0, NAN], [NAN, 4.0]])
    mean = masked_mean(values, torch.tensor([[True, False], [False, True]]))
    assert (float(mean.total), float(mean.count), float(mean)) == (5.0, 2.0, 2.5)


def test_a_masked_mean_of_nothing_is_zero():
    assert float(masked_mean(torch.tensor([NAN]), torch.tensor([False]))) == 0.0


def test_a_masked_mean_has_no_gradient_and_sums_in_double():
    """2^24 + 1 cannot be told from 2^24 in float32."""
    values = torch.tensor([2.0**24, 1.0], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, True]))
    assert float(mean.total) == 2**24 + 1
    assert not mean.total.requires_grad


def test_the_average_of_a_step_does_not_depend_on_its_micro_batches():
    values = torch.arange(12.0)
    mask = values % 3 != 0
    whole = float(masked_mean(values, mask))
    for sizes in ([12], [1, 11], [5, 4, 3], [1] * 12):
        step = StepMetrics()
        for part, kept in zip(values.split(sizes), mask.split(sizes), strict=True):
            step.add({"x": masked_mean(part, kept)})
        assert step.reduce() == {"x": pytest.approx(whole, abs=1e-12)}


def test_a_step_starts_afresh_after_it_was_read():
    step = StepMetrics()
    step.add({"a": Mean(1.0, 1)})
    step.reduce()
    step.add({"b": Mean(3.0, 2)})
    assert step.reduce() == {"b": 1.5}
    assert step.reduce() == {}


def test_a_metric_of_one_micro_batch_only_is_averaged_over_it_alone():
    step = StepMetrics()
    step.add({"rollout/reward_mean": Mean(2.0, 4), "loss/policy": Mean(1.0, 1)})
    step.add({"loss/policy": Mean(5.0, 1)})
    assert step.reduce() == {"rollout/reward_mean": 0.5, "loss/policy": 3.0}


def test_ranks_are_averaged_by_their_counts():
    """Rank 0: 1 value of 10; rank 1: 3 values of 2. All ranks read 16 / 4."""

    def work(rank):
        step = StepMetrics()
        step.add(
            {
                "x": [Mean(10.0, 1), Mean(torch.tensor(6.0), torch.tensor(3.0))][rank],
                "y": Mean(rank, 1),
            }
        )
        return step.reduce()

    assert run_ranks(work, 2) == [{"x": 4.0, "y": 0.5}] * 2


def test_the_maximum_of_a_step_is_over_all_micro_batches_and_ranks():
    def work(rank):
        step = StepMetrics()
        for value in ([1.0, 3.0], [2.0, torch.tensor(0.5)])[rank]:
            step.add({"x": Maximum(value)})
        return step.reduce()

    assert run_ranks(work, 2) == [{"x": 3.0}] * 2
