"""The benchmarks of strategies and GPUs run, small, and print one line for each contender."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *words):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *words], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_scaling_measures_a_sharded_strategy_on_two_ranks():
    _, *rows = run(
        "scaling.py",
        *("--strategies", "fsdp2", "--ranks", "1", "2", "--timed-steps", "1"),
        *("--hidden-size", "128", "--layers", "2", "--completion-tokens", "4"),
    )
    assert [row[:2] for row in rows] == [["fsdp2", "1"], ["fsdp2", "2"]]
    assert all(float(cell.replace(",", "")) >= 0 for row in rows for cell in row[1:])


@pytest.mark.slow
def test_the_gpu_benchmark_runs_without_a_gpu(tmp_path):
    """On a small model of the tests' own, with dashes for what only a GPU can say."""
    sys.path.insert(0, str(BENCHMARKS))
    from gpu import arguments, workload_of
    from step_workload import write_model

    write_model(workload_of(arguments([])), tmp_path / "small")
    small = str(tmp_path / "small")
    _, grpo, rlsd = run(
        "gpu.py",
        *("--models", small, "--trainer", "cpu", "--precision", "32-true"),
        *("--problems", "2", "--group-size", "2", "--completion-tokens", "4"),
        *("--micro-batches", "1", "--image-pixels", "64", "--timed-steps", "1"),
    )
    assert [grpo[1], rlsd[1]] == ["grpo", "rlsd"]
    assert grpo[7] == grpo[9] == "-"
    assert float(rlsd[4]) > float(grpo[4]) == 0.0
    assert float(rlsd[10]) > 0
