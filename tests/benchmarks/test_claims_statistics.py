import math
from statistics import fmean

import pytest

from benchmarks.claims.statistics import (
    Crossings,
    bootstrap,
    crossings,
    estimate,
    final_difference,
    first_crossing,
    overtaking,
    peak,
    rise,
    step_ratio,
    thresholds,
)

STEPS = (0, 10, 20)


def test_the_interval_of_five_seeds_is_students():
    # mean 0.3, s^2 = (0.04 + 0.01 + 0 + 0.01 + 0.04) / 4 = 0.025; t(0.975, 4) = 2.7764; 2.7764 * sqrt(0.025 / 5)
    found = estimate([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found.mean == pytest.approx(0.3, abs=1e-12)
    assert found.half_width == pytest.approx(0.19632, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.10368, 0.49632), abs=1e-5)


def test_a_single_seed_has_no_interval():
    found = estimate([0.4])
    assert (found.mean, found.half_width, found.low, found.high) == (0.4, None, None, None)


def test_no_value_is_an_error():
    with pytest.raises(ValueError, match="values is empty"):
        estimate([])


@pytest.mark.parametrize(
    ("curve", "level", "step"),
    [
        ([0.2, 0.4, 0.8], 0.5, 12.5),  # a quarter of the way from 0.4 to 0.8
        ([0.2, 0.4, 0.8], 0.4, 10.0),  # exactly at an evaluation
        ([0.2, 0.4, 0.8], 0.1, 0.0),  # the warm start is there already
        ([0.2, 0.6, 0.1], 0.6, 10.0),  # the first time counts, not what follows
        ([0.2, 0.4, 0.8], 0.9, None),
    ],
)
def test_a_crossing_lies_between_two_evaluations(curve, level, step):
    assert first_crossing(STEPS, curve, level) == (None if step is None else pytest.approx(step))


def test_a_seed_that_never_gets_there_is_counted_and_bounds_the_mean():
    found = crossings(STEPS, [[0.0, 1.0, 1.0], [0.0, 0.1, 0.2]], level=0.5)
    assert found.steps == (5.0, None)
    assert (found.num_reached, found.all_reached) == (1, False)
    assert found.bound == 12.5  # (5 + 20) / 2: the true mean is larger


def test_thresholds_lie_between_the_warm_start_and_the_best_mean():
    # means 0.2, 0.7, 0.5: the best is 0.7, though one seed has 0.8; 0.2 + f * 0.5
    curves = [[0.2, 0.6, 0.5], [0.2, 0.8, 0.5]]
    assert thresholds(curves) == pytest.approx([0.325, 0.45, 0.575], abs=1e-9)


def test_a_ratio_is_one_of_mean_steps():
    one = Crossings(steps=(20.0, 40.0), last_step=60)
    two = Crossings(steps=(10.0, 20.0), last_step=60)
    found = step_ratio(one, two)
    assert (found.value, found.relation) == (2.0, "=")
    assert found.interval == (1.0, 4.0)  # 20 over 20 and 40 over 10, each one resample in 16
    assert step_ratio(one, two) == found


def test_censored_ratios_are_bounds():
    whole = Crossings(steps=(20.0, 20.0), last_step=60)
    broken = Crossings(steps=(40.0, None), last_step=60)
    above = step_ratio(broken, whole)  # the baseline's mean lies above (40 + 60) / 2
    assert (above.value, above.relation, above.interval) == (2.5, ">", None)
    below = step_ratio(whole, broken)
    assert (below.value, below.relation, below.interval) == (0.4, "<", None)
    assert step_ratio(broken, broken) is None


def test_a_method_that_needs_no_step_has_no_ratio():
    assert (
        step_ratio(Crossings(steps=(5.0,), last_step=9), Crossings(steps=(0.0,), last_step=9))
        is None
    )


def test_bootstrap_covers_the_statistic_and_repeats_itself():
    first, second = [1.0, 2.0, 3.0, 4.0], [0.0, 1.0]
    found = bootstrap(first, second, lambda a, b: fmean(a) - fmean(b))
    assert found[0] < 2.0 < found[1]
    assert found == bootstrap(first, second, lambda a, b: fmean(a) - fmean(b))
    assert bootstrap([1.0], second, lambda a, b: 0.0) is None


def test_overtaking_holds_mean_curves_against_the_end_of_grpo():
    grpo = [[0.2, 0.5, 0.7], [0.2, 0.5, 0.9]]  # mean 0.2, 0.5, 0.8: at 0.8 at step 20
    method = [[0.2, 0.8, 0.9], [0.2, 0.6, 0.9]]  # mean 0.2, 0.7, 0.9: at 0.8 half-way from 10 to 20
    found = overtaking(STEPS, grpo, STEPS, method)
    assert found.level == pytest.approx(0.8)
    assert found.baseline_step == pytest.approx(20.0)
    assert found.step == pytest.approx(15.0)
    assert found.share == pytest.approx(0.75)
    assert found.seeds.steps == pytest.approx((10.0, 10 + 10 * 2 / 3))


def test_grpo_is_timed_at_its_first_crossing_not_at_its_last_step():
    found = overtaking(STEPS, [[0.2, 0.8, 0.8]], STEPS, [[0.2, 0.5, 0.8]])
    assert (found.baseline_step, found.share) == (pytest.approx(10.0), pytest.approx(2.0))


def test_a_method_that_never_arrives_has_an_infinite_share():
    found = overtaking(STEPS, [[0.2, 0.5, 0.8]], STEPS, [[0.2, 0.3, 0.4]])
    assert found.step is None
    assert math.isinf(found.share)


def test_grpo_that_did_not_learn_cannot_be_overtaken():
    found = overtaking(STEPS, [[0.2, 0.1, 0.2]], STEPS, [[0.2, 0.3, 0.4]])
    assert found.baseline_step == 0
    assert math.isinf(found.share)


def test_the_fall_is_from_the_peak_of_the_mean_curve():
    found = peak(STEPS, [[0.2, 0.6, 0.3], [0.2, 0.4, 0.5]])  # mean 0.2, 0.5, 0.4
    assert found.step == 10
    assert found.height.mean == pytest.approx(0.5)
    # 0.3 and -0.1: mean 0.1, s = 0.28284, t(0.975, 1) = 12.7062; 12.7062 * 0.28284 / sqrt(2)
    assert found.fall.mean == pytest.approx(0.1)
    assert found.fall.half_width == pytest.approx(2.54124, abs=1e-4)


def test_rise_and_difference_look_at_the_ends():
    assert rise([[0.1, 0.9, 0.3], [0.1, 0.9, 0.5]]).mean == pytest.approx(0.3)
    difference, interval = final_difference([[0.0, 0.75], [0.0, 0.25]], [[0.0, 0.25], [0.0, 0.25]])
    assert difference == pytest.approx(0.25)
    assert interval == pytest.approx((0.0, 0.5))
