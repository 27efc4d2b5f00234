"""Where one rank's engine fails, every rank stops, and stands where a checkpoint can be saved and gone on from."""

import itertools

import pytest

from rlsd_lightning.data.loader import RolloutLoader
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import StreamSupply
from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.types import Problem, Sampling
from tests.helpers.fakes import EngineElsewhere, FixedCredit, PlainEncoder, ScriptedVerifier
from tests.helpers.ranks import run_ranks

PROBLEMS = [Problem(f"p{i}", f"question {i}", answer="1", reference="r") for i in range(20)]
STEPS, MICRO_BATCHES, PER_STEP = 4, 2, 4


def loader_of(engine, rank=0, world_size=1, overlap=False):
    collector = RolloutCollector(
        engine,
        PlainEncoder(),
        ScriptedVerifier(lambda problem, response: float(response[0] == "1")),
        FixedCredit(),
        group_size=2,
    )
    rows = list(enumerate(PROBLEMS, start=1))
    return RolloutLoader(
        StreamSupply(lambda row: iter(rows[row:]), PER_STEP, lambda problem: True),
        collector,
        Sampling(max_completion_tokens=4),
        num_steps=STEPS,
        num_micro_batches=MICRO_BATCHES,
        policy_version=lambda: 0,
        rank=rank,
        world_size=world_size,
        overlap=overlap,
    )


def engine_failing_at(step):
    """Fails when it makes the rollouts of a step, counted from 0; None for never."""

    def during(call):
        if call == step:
            raise EngineError("engine: this one failed")

    return EngineElsewhere(lambda prompt_id, place, seed: [1 + place, 2], during)


def asked(batches):
    return [rollout.problem.id for batch in batches for rollout in batch.rollouts]


@pytest.mark.parametrize("overlap", [False, True])
def test_after_a_failure_the_problems_of_the_step_are_taken_again(overlap):
    whole = asked(loader_of(engine_failing_at(None), overlap=overlap))
    stopped = loader_of(engine_failing_at(2), overlap=overlap)
    batches = iter(stopped)
    first = asked(itertools.islice(batches, 2 * MICRO_BATCHES))
    with pytest.raises(EngineError, match="this one failed"):
        next(batches)
    state = stopped.state_dict()
    stopped.close()
    assert state == {"steps_done": 2, "supply": {"row": 2 * PER_STEP}}
    resumed = loader_of(engine_failing_at(None), overlap=overlap)
    resumed.load_state_dict(state)
    assert first + asked(resumed) == whole


@pytest.mark.parametrize("overlap", [False, True])
def test_a_rank_whose_engine_works_stops_with_the_one_whose_engine_failed(overlap):
    def words_and_state(rank):
        loader = loader_of(engine_failing_at(2 if rank == 1 else None), rank, 2, overlap)
        batches = iter(loader)
        num_batches = len(list(itertools.islice(batches, 2 * MICRO_BATCHES)))
        with pytest.raises(EngineError) as failure:
            next(batches)
        loader.close()
        return num_batches, str(failure.value), loader.state_dict()

    at = {"steps_done": 2, "supply": {"row": 2 * PER_STEP}}
    elsewhere = (
        "engine: another rank's engine failed while rollouts of step 3 were made; its own message says how. A step needs "
        "all ranks."
    )
    assert run_ranks(words_and_state, 2) == [
        (4, elsewhere, at),
        (4, "engine: this one failed", at),
    ]
