"""Groups without signal are replaced, in a bounded number of rounds."""

import pytest

from rlsd_lightning.data.refill import refilled
from rlsd_lightning.data.supply import IndexedSupply
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Problem
from tests.helpers.rollouts import rollout, text_prompt

FLAT, MIXED = (0.0, 0.0), (0.5, -0.5)


class Collector:
    """Makes a group of two per problem: problems whose id begins with "f" are flat."""

    def __init__(self):
        self.asked = []

    def __call__(self, problems):
        self.asked.append([problem.id for problem in problems])
        groups = [
            [rollout(text_prompt(p.id, 2), [5], a) for a in (FLAT if p.id[0] == "f" else MIXED)]
            for p in problems
        ]
        flat = sum(p.id[0] == "f" for p in problems)
        return groups, {
            "rollout/zero_variance_fraction": Mean(flat, len(problems)),
            "time/rollout_s": Mean(2.0, 1),
        }


def problems(*ids):
    return [Problem(id_, "?") for id_ in ids]


def refill(first, spare, rounds):
    collector = Collector()
    groups, metrics = refilled(problems(*first), collector, iter(problems(*spare)), rounds)
    return [group[0].problem.id for group in groups], metrics, collector.asked


def test_a_flat_group_gives_way_to_the_next_spare_problem_with_signal():
    ids, _, asked = refill(["a", "f1", "b", "f2"], ["f3", "c", "d"], rounds=2)
    assert ids == ["a", "c", "b", "d"]
    assert asked == [["a", "f1", "b", "f2"], ["f3", "c"], ["d"]]


def test_rounds_are_bounded_and_what_is_still_flat_stays():
    ids, metrics, asked = refill(["f1", "a"], ["f2", "b"], rounds=1)
    assert ids == ["f1", "a"]
    assert len(asked) == 2
    assert float(metrics["rollout/refilled_fraction"]) == 0.0
    assert float(metrics["rollout/refill_rounds"]) == 1


def test_where_no_spare_problem_is_left_the_step_goes_on():
    assert refill(["f1", "a"], [], rounds=3)[0] == ["f1", "a"]


def test_a_step_without_flat_groups_samples_once():
    assert refill(["a", "b"], ["c"], rounds=3)[2] == [["a", "b"]]


def test_means_are_over_all_that_was_sampled_and_times_add_up():
    """First round: 1 of 2 flat, then 0 of 1: a third. 2 s twice."""
    _, metrics, _ = refill(["a", "f1"], ["b"], rounds=1)
    assert float(metrics["rollout/zero_variance_fraction"]) == pytest.approx(1 / 3)
    assert float(metrics["time/rollout_s"]) == 4.0
    assert float(metrics["rollout/refilled_fraction"]) == 0.5


def test_spare_problems_are_the_rest_of_the_data_shared_out_to_the_ranks():
    supply = IndexedSupply(problems(*"abcdefg"), problems_per_step=2, shuffle=True, seed=3)
    for step in range(4):
        taken = {problem.id for problem in supply.take(step)}
        ranks = [[p.id for p in supply.spare(step, rank, 2)] for rank in range(2)]
        assert sorted([*ranks[0], *ranks[1], *taken]) == sorted("abcdefg")
        assert ranks[0] == [p.id for p in supply.spare(step, 0, 2)]
    assert [p.id for p in supply.spare(0, 0, 1)] != [p.id for p in supply.spare(1, 0, 1)]


def test_a_metric_that_only_some_rounds_have_is_over_those():
    """Rewards have other parts for another kind of problem."""
    parts = iter([{"rollout/part_a": Mean(1.0, 2)}, {"rollout/part_b": Mean(3.0, 4)}])

    def collect(problems):
        return Collector()(problems)[0], next(parts)

    _, metrics = refilled(problems("f1", "a"), collect, iter(problems("b")), 1)
    assert float(metrics["rollout/part_a"]) == 0.5
    assert float(metrics["rollout/part_b"]) == 0.75
