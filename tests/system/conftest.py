"""Commands run as a user runs them, in a workplace of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.warm import WarmCommands
from tests.helpers.workplace import SMALL, make_workplace

Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    make_workplace(folder)
    return folder


@pytest.fixture(scope="session")
def surroundings(workplace: Path) -> dict[str, str]:
    """What commands find in the environment: the user's plugins, and one thread."""
    return {"PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def rlsd_afresh(workplace: Path, surroundings: dict[str, str]) -> Command:
    """Runs `python -m rlsd_lightning ...` as a user does, in the workplace."""

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "rlsd_lightning", *words],
            cwd=workplace,
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture(scope="session")
def rlsd(workplace: Path, surroundings: dict[str, str]) -> Iterator[Command]:
    """Does the same as rlsd_afresh in a fork that has the libraries imported: 5 s of processor time less each."""
    commands = WarmCommands(workplace, surroundings)
    yield commands.run
    commands.close()


@pytest.fixture(scope="session")
def straight(rlsd_afresh: Command) -> subprocess.CompletedProcess:
    """An uninterrupted small run in runs/, in a process of its own: what other runs are compared with."""
    done = rlsd_afresh("fit", *SMALL, "teacher.every_n_steps=2")
    assert done.returncode == 0, done.stderr
    return done
