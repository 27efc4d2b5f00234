import json
import math

import pytest
import torch

from rlsd_lightning.scoring import Benchmark, Score
from rlsd_lightning.scoring.intervals import mean_interval, with_interval
from rlsd_lightning.scoring.samples import encode
from rlsd_lightning.types import Problem
from tests.helpers.ranks import run_ranks


class Same(Benchmark):
    """Right is what equals the answer."""

    def score(self, problem, text):
        return Score(correct=text == problem.answer, prediction=text, facts={"kind": problem.kind})

    def aggregate(self, samples):
        return with_interval("accuracy", [sample.correct for sample in samples])


def problem(name, answer="B"):
    return Problem(id=name, prompt="?", answer=answer)


def metric_after(pairs, **kwargs):
    metric = Same(**kwargs)
    metric.update([problem(name) for name, _ in pairs], [response for _, response in pairs])
    return metric


def test_a_question_counts_once_however_often_it_comes():
    metric = metric_after([("1", "B"), ("2", "C"), ("1", "C")])
    metric.update([problem("2")], ["B"])
    assert metric.compute()["num_responses"] == 2
    assert metric.compute()["accuracy"] == 0.5


def test_several_samples_of_a_question_count_if_they_are_asked_for():
    pairs = [("1", "B"), ("1", "C"), ("1", "C")]
    found = metric_after(pairs, samples_per_problem=2).compute()
    assert found["num_responses"] == 2
    assert found["accuracy"] == 0.5


def test_ranks_that_share_a_question_count_it_once():
    here = metric_after([("1", "B"), ("2", "C")])
    there = metric_after([("3", "C"), ("1", "B")])
    here.dist_sync_fn = lambda state, group: [state, torch.cat(there.encoded)]
    here.distributed_available_fn = lambda: True
    assert here.compute()["num_responses"] == 3
    assert here.compute()["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("cut", [2, 4])
def test_two_processes_compute_what_one_does(cut):
    """Of four questions: two each and one of them twice, or all on one rank and none on the other."""
    pairs = [("1", "B"), ("2", "C"), ("3", "B"), ("4", "C")]

    def of_rank(rank):
        share = pairs[:cut] if rank == 0 else pairs[cut:]
        repeated = [pairs[0]] if rank == 1 and cut == 2 else []
        metric = Same(extract=["none", "answer_tag_or_box"])
        given = share + repeated
        if given:
            metric.update([problem(name) for name, _ in given], [text for _, text in given])
        return metric.compute()

    alone = metric_after(pairs, extract=["none", "answer_tag_or_box"]).compute()
    assert run_ranks(of_rank, world_size=2) == [alone, alone]


def test_a_rank_without_questions_gathers_like_the_others():
    assert [state.numel() for state in Same().encoded] == [0]
    metric = metric_after([("1", "B")])
    metric.reset()
    assert [state.numel() for state in metric.encoded] == [0]


def test_after_a_reset_the_same_questions_count_again():
    metric = metric_after([("1", "C")])
    metric.reset()
    metric.update([problem("1")], ["B"])
    assert metric.compute()["accuracy"] == 1


def test_two_extraction_steps_are_logged_side_by_side():
    steps = ["none", "answer_tag_or_box"]
    found = metric_after([("1", "<answer>B</answer>"), ("2", "B")], extract=steps).compute()
    assert found["accuracy"] == 0.5
    assert found["answer_tag_or_box/accuracy"] == 1
    assert found["num_responses"] == found["answer_tag_or_box/num_responses"] == 2


def test_every_response_can_be_audited(tmp_path):
    path = tmp_path / "audits" / "same.jsonl"
    metric = metric_after([("1", "\ud800 <answer>B</answer>")], audit_path=str(path))
    metric.update([problem("2")], ["C"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[0]["response"] == "\ud800 <answer>B</answer>"
    assert rows[1] | {"prediction": "C", "answer": "B", "correct": False} == rows[1]
    metric.reset()
    metric.update([problem("3")], ["B"])
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["3"]


def test_memory_stays_flat_as_responses_are_not_kept():
    metric = metric_after([("1", "x" * 1_000_000)])
    assert sum(state.numel() for state in metric.encoded) < 200


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scorer": "mine"}, "scorer is 'mine', but this benchmark has official and vlmevalkit"),
        ({"extract": "box"}, "extract is 'box'"),
        ({"extract": []}, r"extract is \[\]"),
        ({"extract": ["none", "none"]}, "different ones"),
        ({"samples_per_problem": 0}, "samples_per_problem is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Same(**settings)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = [1.0] * 300 + [0.0] * 700
    low, high = mean_interval(values)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.003)
    assert mean_interval(values) == (low, high)
    assert all(math.isnan(end) for end in mean_interval([]))


def test_an_encoding_of_nothing_is_empty():
    assert encode([]).numel() == 0
