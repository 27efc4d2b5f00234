"""The sync's benchmark on the smallest model: every column is there, and what it timed was a right sync."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_a_sync_is_timed_beside_a_copy_and_leaves_equal_weights():
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    words = ("--shapes", "128x2", "--dtypes", "float32", "--threads", "1", "--rounds", "1")
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "sync.py", *words],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    *_, line = done.stdout.splitlines()
    shape, _, dtype, copied, synced, ratio, *others = line.split()
    assert (shape, dtype) == ("128x2", "float32")
    assert float(synced) > float(copied) > 0
    assert float(ratio) > 1
    assert float(others[-1]) <= 1e-5
    assert len(others) == 5


def test_memory_that_is_freed_is_kept_only_where_the_command_says_so(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from sync import KEEP_FREED, arguments

    assert not arguments([]).keep_freed_memory
    assert arguments(["--keep-freed-memory"]).keep_freed_memory
    assert all(int(value) > 2**32 for value in KEEP_FREED.values())
