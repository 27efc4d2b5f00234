"""Commands run as a user runs them, in a workplace of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.workplace import SMALL, make_workplace

Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    make_workplace(folder)
    return folder


@pytest.fixture(scope="session")
def rlsd(workplace: Path) -> Command:
    """Runs `python -m rlsd_lightning ...` as a user does, in the workplace."""

    def run(*words: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "rlsd_lightning", *words],
            cwd=workplace,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture(scope="session")
def straight(rlsd: Command) -> subprocess.CompletedProcess:
    """An uninterrupted small run in runs/."""
    done = rlsd("fit", *SMALL, "teacher.every_n_steps=2")
    assert done.returncode == 0, done.stderr
    return done
