"""The search for texts that break a verifier, for a few seconds, where atheris is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_verifiers.py"


@pytest.mark.slow
def test_a_short_search_finds_nothing():
    pytest.importorskip("atheris", reason="needs atheris (pip install atheris)")
    command = [sys.executable, str(SCRIPT), "--seconds", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DONE" in done.stderr
