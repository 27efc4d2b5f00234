"""From problems to rollouts: every completion with its own problem, verdict and advantage."""

import contextlib
import threading
import time

import pytest

from rlsd_lightning.data.ahead import AbandonedError, Ahead
from rlsd_lightning.data.rollouts import RolloutCollector, rollout_metrics
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Problem, Sampling
from rlsd_lightning.verification import verify_batch
from rlsd_lightning.verifier_pool import VerifierPool
from tests.helpers.fakes import FixedCredit, PlainEncoder, ScriptedEngine, ScriptedVerifier
from tests.helpers.misbehaving import Misbehaving
from tests.helpers.rollouts import rollout, text_prompt

PROBLEMS = [
    Problem("a", "1+1", answer="2", reference="two"),
    Problem("b", "2+2", answer="4", reference="four"),
]
SAMPLING = Sampling(max_completion_tokens=5, seed=3)

SCRIPT = {"a": [[1], [2], [2], [1]], "b": [[4], [1], [9, 9], [9]]}
"""Completions are single tokens whose number is the answer; 9 cannot be judged."""


def by_answer(problem, response):
    return None if "9" in response else float(response == problem.answer)


class StreamingEngine(ScriptedEngine):
    """Hands over the last prompt's group first."""

    def generate_each(self, prompts, sampling, group_size):
        groups = self.generate(prompts, sampling, group_size)
        for place in reversed(range(len(prompts))):
            self.calls.append(("done", place))
            yield place, groups[place]


def collector(
    script=SCRIPT,
    judge=by_answer,
    needs_teacher=True,
    group_size=4,
    pool=None,
    engine=ScriptedEngine,
    verifier=None,
):
    return RolloutCollector(
        engine(lambda prompt_id, place, seed: script[prompt_id][place]),
        PlainEncoder(),
        verifier or ScriptedVerifier(judge),
        FixedCredit(needs_teacher),
        group_size,
        pool=pool,
    )


def test_every_completion_meets_its_own_problem():
    groups, _ = collector().collect(PROBLEMS, SAMPLING)
    assert [[r.problem.id for r in group] for group in groups] == [["a"] * 4, ["b"] * 4]
    assert [[r.completion.token_ids for r in group] for group in groups] == [
        SCRIPT["a"],
        SCRIPT["b"],
    ]
    assert [[r.verdict.reward for r in group] for group in groups] == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert [r.verdict.valid for r in groups[1]] == [True, True, False, False]


def test_advantages_are_those_of_the_group_and_unjudgeable_completions_leave_it():
    """a: rewards 0 1 1 0 have std 0.57735: +-0.866. b: 1 and 0 of two judged ones: +-0.707."""
    groups, _ = collector().collect(PROBLEMS, SAMPLING)
    found = [[r.advantage for r in group] for group in groups]
    assert found[0] == pytest.approx([-0.866, 0.866, 0.866, -0.866], abs=1e-3)
    assert found[1] == pytest.approx([0.707, -0.707, 0, 0], abs=1e-3)


def test_equal_rewards_give_exactly_no_advantage():
    groups, metrics = collector(judge=lambda problem, response: 0.9).collect(PROBLEMS, SAMPLING)
    assert [r.advantage for group in groups for r in group] == [0.0] * 8
    assert float(metrics["rollout/zero_variance_fraction"]) == 1.0


def test_both_views_are_those_of_the_problem():
    groups, _ = collector().collect(PROBLEMS, SAMPLING)
    for group, problem in zip(groups, PROBLEMS, strict=True):
        assert {read(r.student) for r in group} == {problem.prompt}
        assert {read(r.teacher) for r in group} == {f"{problem.prompt} {problem.reference}"}


def read(prompt):
    return "".join(map(chr, prompt.token_ids))


def test_no_teacher_view_is_made_where_credit_needs_none():
    made = collector(needs_teacher=False)
    groups, _ = made.collect(PROBLEMS, SAMPLING)
    assert {r.teacher for group in groups for r in group} == {None}
    assert made.encoder.num_teacher_calls == 0


def test_whether_the_teacher_is_needed_is_asked_at_every_step():
    """Lambda changes from step to step."""
    made = collector(needs_teacher=False)
    made.collect(PROBLEMS, SAMPLING)
    made.credit.needs_teacher = True
    groups, _ = made.collect(PROBLEMS, SAMPLING)
    assert all(r.teacher is not None for group in groups for r in group)
    assert made.encoder.num_teacher_calls == 2  # once per problem, not per completion


def test_the_engine_is_awake_while_it_generates_and_sleeps_afterwards():
    made = collector()
    with made.awake():
        made.collect(PROBLEMS, SAMPLING)
    assert made.engine.calls == ["wake", (["a", "b"], SAMPLING, 4), "sleep"]


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match=r"group_size is 1.*every advantage would be 0.*2 or more"):
        collector(group_size=1)


def test_metrics_by_hand():
    """Six judged completions, three right; lengths 1 x 7 and 2; none cut, no group flat."""
    _, metrics = collector().collect(PROBLEMS, SAMPLING)
    found = {name: float(mean) for name, mean in metrics.items()}
    assert {name: found[name] for name in found if not name.startswith("time/")} == {
        "rollout/reward_mean": 0.5,
        "rollout/accuracy": 0.5,
        "rollout/invalid_fraction": 0.25,
        "rollout/part_scripted": 0.5,
        "rollout/completion_tokens_mean": 9 / 8,
        "rollout/completion_tokens_max": 2.0,
        "rollout/truncated_fraction": 0.0,
        "rollout/zero_variance_fraction": 0.0,
    }
    assert {"time/rollout_s", "time/verify_s", "time/encode_teacher_s"} < found.keys()


def test_truncated_completions_and_flat_groups_are_counted():
    prompt = text_prompt("a", 2)
    cut = rollout(prompt, [1, 2, 3])
    object.__setattr__(cut.completion, "finish_reason", "length")
    groups = [[cut, rollout(prompt, [1])], [rollout(prompt, [1], 1.0), rollout(prompt, [1], -1.0)]]
    metrics = rollout_metrics(groups)
    assert float(metrics["rollout/truncated_fraction"]) == 0.25
    assert float(metrics["rollout/zero_variance_fraction"]) == 0.5


def test_a_verifier_that_raises_stops_the_run():
    """Its bug must not become a reward of 0."""

    def broken(problem, response):
        raise KeyError("oops")

    with pytest.raises(RuntimeError, match="oops"):
        collector(judge=broken).collect(PROBLEMS, SAMPLING)


class NotedPool:
    """Judges in this process and notes what it was asked."""

    def __init__(self):
        self.asked, self.closed = [], False

    def verify_batch(self, verifier, problems, responses):
        self.asked += [
            (problem.id, response) for problem, response in zip(problems, responses, strict=True)
        ]
        return verify_batch(verifier, problems, responses)

    def read_metrics(self):
        return {"verify/timeouts": Mean(len(self.asked), 1)}

    def close(self):
        self.closed = True


def test_a_pool_judges_instead_of_this_process_and_its_counts_join_the_metrics():
    pool = NotedPool()
    wanted, _ = collector().collect(PROBLEMS, SAMPLING)
    pooled = collector(pool=pool)
    groups, metrics = pooled.collect(PROBLEMS, SAMPLING)
    assert [problem for problem, _ in pool.asked] == ["a"] * 4 + ["b"] * 4
    assert [[r.verdict for r in group] for group in groups] == [
        [r.verdict for r in group] for group in wanted
    ]
    assert float(metrics["verify/timeouts"]) == 8
    pooled.close()
    assert pool.closed


class Words:
    """Tokens as what tests.helpers.misbehaving does: 5 leaves a note, 7 is a fault, 9 kills the process that judges."""

    def __init__(self, note):
        self.words = {5: f"count_in {note}", 7: "complain no tolerance", 9: "crash"}

    def decode(self, token_ids):
        return self.words.get(token_ids[0], str(token_ids[0]))


@pytest.fixture(scope="module")
def started_pool():
    with VerifierPool(workers=2, max_bad_fraction=1.0) as pool:
        pool.start(Misbehaving())
        yield pool


def judging(pool, engine, note, b=(4, 1, 5, 9)):
    """A collector whose responses act on the processes that judge."""
    made = collector(
        SCRIPT | {"b": [[token] for token in b]},
        pool=pool,
        engine=engine,
        verifier=Misbehaving(),
    )
    made.engine.tokenizer = Words(note)
    return made


def described(groups):
    return [[(r.problem, r.completion, r.verdict, r.advantage) for r in group] for group in groups]


def rewards(groups):
    return [[r.verdict.reward for r in group] for group in groups]


def test_groups_are_judged_while_the_engine_goes_on_and_nothing_else_changes(
    started_pool, tmp_path
):
    note = tmp_path / "judged"

    class WaitingEngine(StreamingEngine):
        """Goes on to the next group once the one before it is judged."""

        def generate_each(self, prompts, sampling, group_size):
            for place, group in super().generate_each(prompts, sampling, group_size):
                yield place, group
                end = time.monotonic() + 20
                while not note.exists():
                    assert time.monotonic() < end, "nothing is judged while the engine is at work"
                    time.sleep(0.01)

    wanted, counts = judging(started_pool, ScriptedEngine, note).collect(PROBLEMS, SAMPLING)
    note.unlink()
    streaming = judging(started_pool, WaitingEngine, note)
    groups, streamed_counts = streaming.collect(PROBLEMS, SAMPLING)
    assert streaming.engine.calls[-2:] == [("done", 1), ("done", 0)]
    assert described(groups) == described(wanted)
    assert rewards(groups) == [[0, 1, 1, 0], [1, 0, 1, 0]]
    for name in counts.keys() | streamed_counts.keys():
        if not name.startswith("time/"):
            assert counts[name] == streamed_counts[name], name
    assert float(counts["verify/crashes"]) == 1
    assert float(counts["verify/duplicate_fraction"]) == 0.25  # 1 and 2 stand twice for "a"


def test_time_to_verify_is_what_judging_adds_to_generating(started_pool, tmp_path):
    class SlowEngine(StreamingEngine):
        def generate_each(self, prompts, sampling, group_size):
            for place, group in super().generate_each(prompts, sampling, group_size):
                yield place, group
                time.sleep(0.5)

    made = judging(started_pool, SlowEngine, tmp_path / "judged")
    _, metrics = made.collect(PROBLEMS, SAMPLING)
    assert float(metrics["time/rollout_s"]) >= 1.0
    assert 0 < float(metrics["time/verify_s"]) < 0.9


def test_a_fault_of_the_verifier_or_of_the_engine_ends_a_step_that_overlaps(started_pool, tmp_path):
    class BreakingEngine(StreamingEngine):
        def generate_each(self, prompts, sampling, group_size):
            yield from list(super().generate_each(prompts, sampling, group_size))[:1]
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        judging(started_pool, BreakingEngine, tmp_path / "1").collect(PROBLEMS, SAMPLING)
    complaining = judging(started_pool, StreamingEngine, tmp_path / "2", b=(4, 7, 1, 1))
    with pytest.raises(ValueError, match=r"problem 'b': no tolerance"):
        complaining.collect(PROBLEMS, SAMPLING)
    sound = judging(started_pool, StreamingEngine, tmp_path / "3")
    groups, _ = sound.collect(PROBLEMS, SAMPLING)
    assert rewards(groups) == [[0, 1, 1, 0], [1, 0, 1, 0]]


@pytest.mark.parametrize("is_pooled", [False, True])
def test_an_engine_ahead_of_training_is_left_off_once_nobody_waits(
    started_pool, tmp_path, is_pooled
):
    """After the group that it is at, and in the thread itself: whoever waits for its end finds it at rest."""
    ahead, events, first_is_there = Ahead(), [], threading.Event()

    class PatientEngine(StreamingEngine):
        """Goes on with its second group once nobody waits for it."""

        def generate_each(self, prompts, sampling, group_size):
            groups = self.generate(prompts, sampling, group_size)
            try:
                yield 1, groups[1]
                first_is_there.set()
                end = time.monotonic() + 20
                with contextlib.suppress(AbandonedError):
                    while time.monotonic() < end:
                        ahead.check_wanted()
                        time.sleep(0.001)
                yield 0, groups[0]
                events.append("went on")
            finally:
                events.append(threading.current_thread().name)

    made = judging(started_pool, PatientEngine, tmp_path / "judged", b=(4, 1, 1, 1))
    made.pool = started_pool if is_pooled else None

    def collect():
        with pytest.raises(AbandonedError):
            made.collect(PROBLEMS, SAMPLING, ahead)
        events.append("left off")

    ahead.begin(collect)
    assert first_is_there.wait(20)
    ahead.close()
    assert events == ["rollouts-ahead", "left off"]
