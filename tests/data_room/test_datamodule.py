from types import SimpleNamespace

import pytest

from rlsd_lightning.data.datamodule import (
    Evaluation,
    EvaluationBatch,
    RolloutDataModule,
    rank_indices,
)
from rlsd_lightning.types import Problem, Sampling

PROBLEMS = [Problem(id=str(number), prompt="?") for number in range(7)]


def batches(rank, world_size, batch_size=2):
    sampling = Sampling(max_completion_tokens=1)
    evaluation = Evaluation(
        problems=PROBLEMS, metric=None, sampling=sampling, batch_size=batch_size
    )
    module = RolloutDataModule(None, None, None, {"one": evaluation})
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    (loader,) = module.val_dataloader()
    return list(loader)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 10])
def test_every_problem_counts_on_exactly_one_rank(world_size):
    counted = [
        problem.id
        for rank in range(world_size)
        for batch in batches(rank, world_size)
        for problem in batch.counted
    ]
    assert sorted(counted) == [problem.id for problem in PROBLEMS]


@pytest.mark.parametrize("world_size", [2, 3, 4, 10])
def test_all_ranks_sample_equally_often(world_size):
    """Else one of them would wait for ever where weights are gathered."""
    sizes = [[len(b.problems) for b in batches(rank, world_size)] for rank in range(world_size)]
    assert all(size == sizes[0] for size in sizes)
    assert len(set(map(len, (rank_indices(7, r, world_size) for r in range(world_size))))) == 1


def test_a_batch_tells_fill_from_what_counts():
    batch = EvaluationBatch(problems=tuple(PROBLEMS[:3]), counts=(True, False, True))
    assert batch.of_counted(["a", "b", "c"]) == ["a", "c"]
    assert batch.counted == [PROBLEMS[0], PROBLEMS[2]]
