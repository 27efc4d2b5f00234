"""The verifiers' benchmark, small: both ways of judging agree, and hostile responses change no other verdict."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

from rlsd_lightning.types import Problem, Verdict
from tests.helpers.misbehaving import Misbehaving

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("verify_benchmark", BENCHMARKS / "verify.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_table_has_a_line_per_kind_and_says_that_hostile_ones_changed_nothing(
    benchmark, capsys
):
    benchmark.main(["--small", "--only", "math", "math, hostile"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["kind", "rows", "seconds"]
    assert lines[1].startswith("math ")
    assert len(lines[1].split()) == 10  # the aim is four words
    assert lines[2].startswith("math, hostile ")
    assert lines[3].endswith("with hostile ones among them: identical.")


@pytest.mark.parametrize("name", ["math", "multiple choice", "numeric", "boolean"])
def test_responses_are_both_right_and_wrong_and_no_two_are_alike(benchmark, name):
    workload = benchmark.WORKLOADS[name][1](20)
    rows = zip(workload.problems, workload.responses, strict=True)
    right = [workload.verifier.verify(*row).correct for row in rows]
    assert 0.2 < sum(right) / len(right) < 0.8
    assert len(set(workload.responses)) == len(workload.responses)


def test_a_fork_is_told_from_this_process_and_ends_at_its_limit(benchmark, monkeypatch):
    problem = Problem(id="1", prompt="", answer="4")
    assert benchmark._in_a_fork(Misbehaving(), problem, "4") == Verdict(1.0, True)
    assert benchmark._in_a_fork(Misbehaving(), problem, "5") == Verdict(0.0, False)
    monkeypatch.setattr(benchmark, "_FORK_LIMIT_S", 0.2)
    assert not benchmark._in_a_fork(Misbehaving(), problem, "hang").valid


def test_processor_time_is_that_of_the_whole_family(benchmark):
    before = benchmark._cpu_s(os.getpid())
    child = os.fork()
    if child == 0:
        while time.process_time() < 0.5:
            pass
        os._exit(0)
    time.sleep(0.1)
    os.waitpid(child, 0)
    assert 0.3 < benchmark._cpu_s(os.getpid()) - before < 5
