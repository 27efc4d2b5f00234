"""The train dataloader: sized, on-policy, stateful, and shared out over ranks."""

import contextlib
import itertools
import threading

import pytest

from rlsd_lightning.data.loader import RolloutLoader, step_seed
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import IndexedSupply, StreamSupply
from rlsd_lightning.types import Problem, Sampling
from tests.helpers.fakes import (
    EngineElsewhere,
    FixedCredit,
    PlainEncoder,
    ScriptedEngine,
    ScriptedVerifier,
)
from tests.helpers.ranks import run_ranks

PROBLEMS = [Problem(f"p{i}", f"question {i}", reference="r") for i in range(10)]
NUM_STEPS, MICRO_BATCHES = 4, 3
PATIENCE_S = 20


def script(prompt_id, place, seed):
    """Two to five tokens that depend on prompt, place and seed."""
    first = (sum(map(ord, prompt_id)) + 31 * place + 7 * seed) % 101
    return [first + i for i in range(2 + first % 4)]


def judge(problem, response):
    """Completions that begin with a multiple of 11 cannot be judged."""
    first = int(response.split()[0])
    return None if first % 11 == 0 else float(first % 2)


def indexed():
    return IndexedSupply(PROBLEMS, 4, shuffle=True, seed=0)


def streamed():
    rows = list(enumerate(PROBLEMS, start=1))
    return StreamSupply(lambda row: iter(rows[row:]), 4, lambda problem: problem.id != "p4")


def all_alike(problem, response):
    return 0.5


def some_alike(problem, response):
    """Groups of every third problem teach nothing."""
    return 0.5 if int(problem.id[1:]) % 3 == 0 else judge(problem, response)


def loader(supply=None, engine=None, credit=None, judge=judge, **settings):
    collector = RolloutCollector(
        engine or ScriptedEngine(script),
        PlainEncoder(),
        ScriptedVerifier(judge),
        credit or FixedCredit(),
        group_size=4,
    )
    defaults = {
        "num_steps": NUM_STEPS,
        "num_micro_batches": MICRO_BATCHES,
        "policy_version": lambda: 0,
    }
    return RolloutLoader(
        supply or indexed(),
        collector,
        Sampling(max_completion_tokens=8, seed=5),
        **(defaults | settings),
    )


def generations(engine):
    return [call for call in engine.calls if isinstance(call, tuple)]


def describe(batch):
    """Everything of a batch that training sees, in plain values."""
    return (
        [
            (r.problem.id, r.completion.token_ids, r.advantage, r.verdict.valid)
            for r in batch.rollouts
        ],
        batch.token_ids.tolist(),
        batch.completion_mask.tolist(),
        batch.student.input_ids.tolist(),
        batch.teacher_index.tolist(),
        batch.num_step_tokens,
        batch.num_step_completions,
        sorted(batch.metrics),
    )


def test_its_length_is_known_so_that_lightning_does_not_prefetch():
    assert len(loader()) == NUM_STEPS * MICRO_BATCHES
    assert len(list(loader())) == NUM_STEPS * MICRO_BATCHES


def test_rollouts_are_made_once_per_step_and_only_when_its_first_micro_batch_is_asked_for():
    engine = ScriptedEngine(script)
    batches = iter(loader(engine=engine))
    assert generations(engine) == []
    for place in range(NUM_STEPS * MICRO_BATCHES):
        next(batches)
        assert len(generations(engine)) == place // MICRO_BATCHES + 1


def test_every_batch_carries_the_policy_version_of_its_step():
    found = []
    # As many optimizer steps as whole steps have been seen, as training would have taken.
    for batch in loader(policy_version=lambda: len(found) // MICRO_BATCHES):
        found.append(batch.policy_version)
    assert found == [step for step in range(NUM_STEPS) for _ in range(MICRO_BATCHES)]


def test_a_step_holds_every_completion_of_its_problems_once():
    batches = list(loader())
    for step in range(NUM_STEPS):
        part = batches[step * MICRO_BATCHES : (step + 1) * MICRO_BATCHES]
        names = [r.problem.id for batch in part for r in batch.rollouts]
        assert sorted(names) == sorted(4 * [p.id for p in indexed().take(step)])
        assert all(batch.rollouts for batch in part)


def test_the_counts_are_those_of_the_whole_step():
    """Loss tokens and completions over all micro-batches, unjudgeable ones left out."""
    batches = list(loader())
    assert not all(r.verdict.valid for batch in batches for r in batch.rollouts)
    for step in range(NUM_STEPS):
        part = batches[step * MICRO_BATCHES : (step + 1) * MICRO_BATCHES]
        assert {b.num_step_tokens for b in part} == {
            sum(int(b.completion_mask.sum()) for b in part)
        }
        assert {b.num_step_completions for b in part} == {
            sum(int(b.completion_mask.any(1).sum()) for b in part)
        }


def test_metrics_travel_on_the_first_micro_batch_of_a_step():
    found = ["rollout/reward_mean" in batch.metrics for batch in loader()]
    assert found == [True, False, False] * NUM_STEPS
    assert not any(batch.metrics for batch in list(loader())[1:3])


def test_every_step_draws_with_a_seed_of_its_own():
    engine = ScriptedEngine(script)
    list(loader(engine=engine))
    seeds = [sampling.seed for _, sampling, _ in generations(engine)]
    assert seeds == [step_seed(5, step) for step in range(NUM_STEPS)]
    assert len(set(seeds)) == NUM_STEPS


def test_seeds_of_different_runs_and_steps_never_meet():
    seeds = {step_seed(seed, step) for seed in range(4) for step in (0, 1, 2, 10**9)}
    assert len(seeds) == 16


@pytest.mark.parametrize("supply", [indexed, streamed])
@pytest.mark.parametrize("done", range(NUM_STEPS + 1))
def test_a_resumed_loader_gives_the_remaining_batches(supply, done):
    whole = [describe(batch) for batch in loader(supply())]
    first = loader(supply())
    taken = [describe(batch) for batch in itertools.islice(first, done * MICRO_BATCHES)]
    resumed = loader(supply())
    resumed.load_state_dict(first.state_dict())
    assert taken + [describe(batch) for batch in resumed] == whole


def test_an_iterator_made_before_the_state_was_loaded_goes_on_from_it_too():
    """Lightning makes the iterator first and restores the loader afterwards."""
    done = loader()
    list(itertools.islice(done, MICRO_BATCHES))
    resumed = loader()
    batches = iter(resumed)
    resumed.load_state_dict(done.state_dict())
    assert len(list(batches)) == (NUM_STEPS - 1) * MICRO_BATCHES
    assert (
        len(resumed) == NUM_STEPS * MICRO_BATCHES
    )  # counted from the start of the run, as Lightning does


def test_a_checkpoint_in_the_middle_of_a_step_is_refused():
    made = loader()
    batches = iter(made)
    made.state_dict()
    for place in range(1, 2 * MICRO_BATCHES + 1):
        next(batches)
        if place % MICRO_BATCHES == 0:
            assert made.state_dict()["steps_done"] == place // MICRO_BATCHES
            continue
        with pytest.raises(
            RuntimeError, match=rf"after {place % MICRO_BATCHES} of 3 micro-batches"
        ):
            made.state_dict()


def test_rollouts_are_made_in_the_context_of_the_trainers_precision():
    entered = []

    @contextlib.contextmanager
    def precision():
        entered.append("in")
        yield
        entered.append("out")

    engine = ScriptedEngine(script)
    engine.calls = entered
    next(iter(loader(engine=engine, forward_context=precision)))
    assert entered == ["in", "wake", generations(engine)[0], "sleep", "out"]


def test_max_row_tokens_and_share_prefix_reach_the_rows():
    """Prompts of 10 letters, completions of 2 to 5 tokens."""
    widths = [b.student.input_ids.shape[1] for b in loader(max_row_tokens=20, num_micro_batches=2)]
    assert max(widths) <= 20
    assert {int(b.student.branch_ids.max()) for b in loader(share_prefix=False)} == {1}
    assert max(int(b.student.branch_ids.max()) for b in loader(num_micro_batches=1)) == 4


def test_problems_that_processes_cannot_share_evenly_are_refused():
    with pytest.raises(ValueError, match=r"problems_per_step is 4, which 3 processes"):
        loader(world_size=3)


@pytest.mark.parametrize("supply", [indexed, streamed])
def test_ranks_share_a_step_without_overlap_and_count_it_together(supply):
    """Two processes with two problems each make, of the same seeds, what one makes with four."""

    def work(rank):
        made = loader(supply(), num_micro_batches=2, rank=rank, world_size=2)
        return [describe(batch) for batch in made]

    ranks = run_ranks(work, 2)
    single = [describe(batch) for batch in loader(supply(), num_micro_batches=2)]
    for step in range(NUM_STEPS):
        here = slice(2 * step, 2 * step + 2)
        shares = [[str(row) for batch in rank[here] for row in batch[0]] for rank in ranks]
        alone = [str(row) for batch in single[here] for row in batch[0]]
        assert sorted(shares[0] + shares[1]) == sorted(alone)
        assert len(shares[0]) == len(shares[1]) == 8
        counts = {batch[5:7] for batches in (*ranks, single) for batch in batches[here]}
        assert len(counts) == 1


def train(made, engine, num_steps=NUM_STEPS, first=0):
    """Go through steps as training does: what a step's end waits for, then new weights. Return the batches by step."""
    batches, steps = iter(made), []
    for step in range(first, num_steps):
        steps.append([next(batches) for _ in range(MICRO_BATCHES)])
        made.wait()
        engine.load_weights((), step + 1)
    return steps


def overlapping(during=lambda call: None, supply=None, **settings):
    engine = EngineElsewhere(script, during)
    return loader(supply, engine, overlap=True, **settings), engine


def versions(steps):
    return [{batch.policy_version for batch in step} for step in steps]


def without_metrics(steps):
    return [[describe(batch)[:-1] for batch in step] for step in steps]


def problems(steps):
    return [sorted({r.problem.id for batch in step for r in batch.rollouts}) for step in steps]


@pytest.mark.parametrize(
    ("supply", "settings"),
    [(indexed, {}), (streamed, {}), (indexed, {"refill_rounds": 2, "judge": some_alike})],
    ids=["indexed", "streamed", "refilled"],
)
def test_overlap_gives_every_step_the_rollouts_that_it_has_without(supply, settings):
    """The script does not look at weights, so that nothing but their version differs."""
    made, engine = overlapping(supply=supply(), **settings)
    found = without_metrics(train(made, engine))
    plain_engine = EngineElsewhere(script)
    plain = loader(supply(), plain_engine, **settings)
    assert found == without_metrics(train(plain, plain_engine))
    assert engine.num_calls == plain_engine.num_calls
    assert (engine.num_calls > NUM_STEPS) == bool(settings)
    made.close()


def test_weights_are_one_step_old_from_the_second_step_on():
    made, engine = overlapping()
    assert versions(train(made, engine)) == [{0}, {0}, {1}, {2}]  # the steps are 0, 1, 2, 3
    engine = EngineElsewhere(script)
    assert versions(train(loader(engine=engine), engine)) == [{0}, {1}, {2}, {3}]
    made.close()


def test_the_oldest_weights_of_a_step_count():
    """They changed while the first completions were sampled; the refill has the newer ones alone."""
    engine = EngineElsewhere(script)
    engine.during = lambda call: setattr(engine, "versions", (7, 9) if call == 0 else (9,))
    first = next(iter(loader(engine=engine, judge=all_alike, refill_rounds=1)))
    assert engine.num_calls == 2
    assert first.policy_version == 7


def test_an_engine_with_weights_of_its_own_must_say_which_it_used():
    engine = EngineElsewhere(script)
    engine.versions = ()
    with pytest.raises(RuntimeError, match=r"no weight_versions.*load_weights.*callbacks\.weight"):
        next(iter(loader(engine=engine)))


def test_the_next_step_is_made_while_a_step_trains_and_none_beyond_the_last():
    begun = [threading.Event() for _ in range(NUM_STEPS)]
    trained = [threading.Event() for _ in range(NUM_STEPS)]

    def generate(call):
        begun[call].set()
        assert call == 0 or trained[call - 1].wait(PATIENCE_S)

    made, engine = overlapping(generate)
    for place, _ in enumerate(made):
        step, micro_batch = divmod(place, MICRO_BATCHES)
        if micro_batch == 1 and step + 1 < NUM_STEPS:
            assert begun[step + 1].wait(PATIENCE_S)
            assert engine.num_calls == step + 1
            trained[step].set()
    assert engine.num_calls == NUM_STEPS
    made.close()


def test_no_weights_come_while_rollouts_are_made():
    """Not between a step's first completions and its refill either: a step has one version."""
    weights_came = threading.Event()
    used = []

    def leave_time_for_weights(call):
        if call in (2, 3):  # of the second step
            assert not weights_came.wait(0.05)
        used.append(engine.versions)

    made, engine = overlapping(leave_time_for_weights, judge=all_alike, refill_rounds=1)
    give = engine.load_weights
    engine.load_weights = lambda named, version: (weights_came.set(), give(named, version))
    train(made, engine, num_steps=2)
    made.close()
    assert used == [(0,), (0,), (0,), (0,), (1,), (1,)]


def test_the_engine_is_woken_and_laid_to_rest_by_the_main_thread():
    """It may be collective; between steps the engine rests, whoever uses it then."""
    made, engine = overlapping()
    threads = []
    engine.wake = lambda: threads.append(("wake", threading.current_thread()))
    engine.sleep = lambda: threads.append(("sleep", threading.current_thread()))
    batches = iter(made)
    for _ in range(MICRO_BATCHES):
        next(batches)
    made.wait()
    here = threading.current_thread()
    assert threads == 2 * [("wake", here), ("sleep", here)]
    made.close()


def test_the_teachers_view_is_made_ahead_where_the_schedule_may_still_ask_for_it():
    """Lambda is 0 while the second step is sampled, and is set above it before the step trains."""
    credit = FixedCredit(needs_teacher=False)
    made, engine = overlapping(credit=credit)
    first, second = train(made, engine, num_steps=2)
    assert all(batch.teacher is None for batch in first)
    assert any(batch.teacher is not None for batch in second)
    made.close()


def test_times_of_the_thread_are_told_apart():
    made, engine = overlapping()
    first, second, *_ = train(made, engine)
    for phase in ("rollout_s", "verify_s", "encode_teacher_s"):
        assert float(first[0].metrics[f"time/{phase}"]) > 0
        assert float(second[0].metrics[f"time/{phase}"]) == 0
        assert float(second[0].metrics[f"ahead/{phase}"]) > 0
    made.close()


def test_an_error_in_the_thread_is_raised_when_its_step_begins():
    def fail(call):
        if call == 2:
            raise ConnectionError("the engine is gone")

    made, _ = overlapping(fail, streamed())
    batches = iter(made)
    for _ in range(2 * MICRO_BATCHES):
        next(batches)
    made.wait()
    saved = made.state_dict()
    assert saved["steps_done"] == 2
    with pytest.raises(ConnectionError, match="the engine is gone"):
        next(batches)
    assert made.state_dict() == saved  # as the step before left it
    made.close()


@pytest.mark.parametrize("supply", [indexed, streamed])
@pytest.mark.parametrize("done", range(NUM_STEPS + 1))
def test_a_resumed_loader_takes_the_problems_that_were_ahead_again(supply, done):
    whole, engine = overlapping(supply=supply())
    wanted = problems(train(whole, engine))
    first, engine = overlapping(supply=supply())
    found = problems(train(first, engine, done))
    state = first.state_dict()
    resumed, engine = overlapping(supply=supply())
    resumed.load_state_dict(state)
    engine.load_weights((), done)  # as WeightSync does at the start
    steps = train(resumed, engine, first=done)
    assert found + problems(steps) == wanted
    assert versions(steps[:2]) == [{done}, {done}][: NUM_STEPS - done]
    plain = loader(supply())
    list(itertools.islice(plain, done * MICRO_BATCHES))
    assert state == plain.state_dict()
    for made in (whole, first, resumed):
        made.close()
