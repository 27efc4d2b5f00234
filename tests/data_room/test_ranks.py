"""Which rank trains on which problem: none twice, none lost, whatever the number of ranks and however it changes."""

import itertools

import pytest
import torch

from rlsd_lightning.data.canaries import KEY, Canaries
from rlsd_lightning.data.datamodule import rank_indices
from rlsd_lightning.data.loader import RolloutLoader
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import IndexedSupply, StreamSupply
from rlsd_lightning.types import Problem, Sampling
from tests.helpers.fakes import FixedCredit, PlainEncoder, ScriptedEngine, ScriptedVerifier

PER_STEP, NUM_STEPS, MICRO_BATCHES, GROUP = 12, 8, 2, 2
PROBLEMS = [Problem(f"p{i}", f"question {i}", answer=str(i % 5), reference="r") for i in range(40)]
"""Three whole steps of twelve and a remainder of four: steps go over the end of the data set."""


@pytest.fixture(autouse=True, scope="module")
def _group_of_one():
    """Each rank counts its tokens alone here: this is about problems."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def shuffled():
    return IndexedSupply(PROBLEMS, PER_STEP, shuffle=True, seed=3)


def in_order():
    return IndexedSupply(PROBLEMS, PER_STEP, shuffle=False, seed=3)


def with_canaries():
    return IndexedSupply(Canaries(PROBLEMS, 0.3), PER_STEP, shuffle=True, seed=3)


def streamed():
    """Rows that cannot be used stand in between."""
    rows = list(enumerate(PROBLEMS, start=1))
    return StreamSupply(lambda row: iter(rows[row:]), PER_STEP, lambda p: p.id not in {"p4", "p39"})


SUPPLIES = pytest.mark.parametrize("supply", [shuffled, in_order, with_canaries, streamed])


def loader_of(supply, rank, world_size, refill_rounds=0):
    """A rank's loader; every problem whose number divides by three has a group without signal."""
    collector = RolloutCollector(
        ScriptedEngine(lambda prompt_id, place, seed: [1 + place, 2]),
        PlainEncoder(),
        ScriptedVerifier(
            lambda problem, response: float(response[0] == "1" or int(problem.id[1:]) % 3 == 0)
        ),
        FixedCredit(),
        group_size=GROUP,
    )
    return RolloutLoader(
        supply(),
        collector,
        Sampling(max_completion_tokens=4),
        num_steps=NUM_STEPS,
        num_micro_batches=MICRO_BATCHES,
        policy_version=lambda: 0,
        rank=rank,
        world_size=world_size,
        refill_rounds=refill_rounds,
    )


def seen(supply, legs, refill_rounds=0):
    """Train in legs of (ranks, steps), each resumed from the checkpoint of the one before, as rank zero saves it.

    Returns:
        Of each step, what each rank has trained on: (problem id, canary). [steps][ranks][groups]
    """
    state, steps = None, []
    for world_size, num_steps in legs:
        loaders = [loader_of(supply, rank, world_size, refill_rounds) for rank in range(world_size)]
        for loader in loaders if state else ():
            loader.load_state_dict(state)
        ranks = [iter(loader) for loader in loaders]
        steps += [[problems_of_step(batches) for batches in ranks] for _ in range(num_steps)]
        state = loaders[0].state_dict()
        assert all(loader.state_dict() == state for loader in loaders)
    return steps


def problems_of_step(batches):
    """What the micro-batches of one step hold; every problem with its whole group."""
    rollouts = [r for batch in itertools.islice(batches, MICRO_BATCHES) for r in batch.rollouts]
    counts = {}
    for rollout in rollouts:
        name = (rollout.problem.id, rollout.problem.extra.get(KEY))
        counts[name] = counts.get(name, 0) + 1
    assert set(counts.values()) == {GROUP}
    return list(counts)


def joined(steps):
    """All ranks of a step together, in no order; that no problem stands there twice is checked."""
    together = [[name for rank in step for name in rank] for step in steps]
    for names in together:
        assert len(set(names)) == len(names) == PER_STEP
    return [set(names) for names in together]


@SUPPLIES
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_any_number_of_ranks_takes_the_problems_that_one_takes(supply, world_size):
    steps = seen(supply, [(world_size, NUM_STEPS)])
    assert {len(rank) for step in steps for rank in step} == {PER_STEP // world_size}
    assert joined(steps) == joined(seen(supply, [(1, NUM_STEPS)]))


@SUPPLIES
@pytest.mark.parametrize(
    "legs",
    [
        [(2, 3), (1, 2), (2, 3)],
        [(4, 3), (2, 5)],
        [(1, 1), (3, 3), (4, 4)],
        [(2, 1), (2, 7)],
    ],
    ids=["2-1-2", "4-2", "1-3-4", "2-2"],
)
def test_a_resume_on_another_number_of_ranks_loses_no_problem_and_sees_none_again(supply, legs):
    assert joined(seen(supply, legs)) == joined(seen(supply, [(1, NUM_STEPS)]))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_an_epoch_gives_every_problem_to_one_rank_once(world_size):
    """A shuffled epoch is three steps, 36 of the 40 problems; in order the round goes on with the remainder."""
    for first in (0, 3):
        epoch = joined(seen(shuffled, [(world_size, first + 3)])[first:])
        assert len(set.union(*epoch)) == 36
    in_round = [
        name for names in seen(in_order, [(world_size, 4)]) for rank in names for name in rank
    ]
    assert len(in_round) == 48
    assert {name for name, _ in in_round} == {problem.id for problem in PROBLEMS}


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_refilled_problems_stand_nowhere_else_in_the_step(world_size):
    """Each rank replaces its own; spare problems are dealt out to the ranks."""
    steps = seen(shuffled, [(world_size, NUM_STEPS)], refill_rounds=2)
    refilled = joined(steps)
    planned = joined(seen(shuffled, [(world_size, NUM_STEPS)]))
    assert refilled != planned
    for names, plan in zip(refilled, planned, strict=True):
        with_signal = {name for name in plan if int(name[0][1:]) % 3}
        assert with_signal <= names


@pytest.mark.parametrize("legs", [[(2, 3), (1, 2), (2, 3)], [(4, 3), (2, 5)]])
def test_refilling_does_not_change_what_a_resumed_run_goes_on_with(legs):
    """The problems with signal of every step are those of the plan."""
    planned = joined(seen(shuffled, [(1, NUM_STEPS)]))
    for names, plan in zip(joined(seen(shuffled, legs, refill_rounds=2)), planned, strict=True):
        assert {name for name in plan if int(name[0][1:]) % 3} <= names


def test_a_problem_is_a_canary_on_whichever_rank_it_is_seen():
    planted = [
        {name for names in joined(seen(with_canaries, legs)) for name in names if name[1]}
        for legs in ([(1, NUM_STEPS)], [(3, NUM_STEPS)], [(4, 3), (2, 5)])
    ]
    assert planted[0] == planted[1] == planted[2]
    assert 3 <= len(planted[0]) <= 20


@pytest.mark.parametrize("num_problems", [1, 4, 7, 12])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_an_evaluation_counts_every_problem_once_and_keeps_ranks_in_step(num_problems, world_size):
    shares = [rank_indices(num_problems, rank, world_size) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    counted = [index for share in shares for index in share if index < num_problems]
    assert sorted(counted) == list(range(num_problems))
