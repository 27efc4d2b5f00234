"""The evaluators' benchmark, small: the answers that it calls right are right, and each is looked for in five styles."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def evaluators(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    # By its path: the folder evaluators/ at the top has the same name.
    spec = importlib.util.spec_from_file_location(
        "evaluators_benchmark", BENCHMARKS / "evaluators.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["mmmu", "mathvista", "mathvision", "wemath", "zerobench"])
def test_every_evaluator_finds_right_answers_among_the_responses(evaluators, name):
    found = evaluators.measure(name, num_responses=300)
    assert 0 < found["right_extracted"] < 1
    assert 0 <= found["right"] < 1
    assert found["seconds"] > 0


def test_no_two_responses_are_equal(evaluators):
    for _, problem_of in evaluators.BENCHMARKS.values():
        texts = {evaluators.response_to(problem_of(n), n) for n in range(300)}
        assert len(texts) == 300
        assert min(map(len, texts)) > 1_500
