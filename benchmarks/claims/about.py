"""about.json: when, with what and on what the runs were made, and how their settings differ."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlsd_lightning.report.settings import Settings, read_settings

PACKAGES = ("torch", "transformers", "lightning", "numpy", "scikit-learn")
_CPU_INFO = Path("/proc/cpuinfo")
_BOOKKEEPING = ("command", "exp_manager.", "paths.", "trainer.default_root_dir")
"""Where a run lies and what it is called says nothing of what it is."""
_NOT_THERE = object()


def surroundings() -> dict[str, Any]:
    """The date, the commit, the versions and the machine of this process."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "cpu": {"model": _cpu_model(), "count": os.cpu_count()},
    }


def _commit() -> str | None:
    """The commit of this checkout, marked if files differ from it; None outside of git, as in an unpacked archive."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    if not _CPU_INFO.exists():
        return platform.processor() or platform.machine()
    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def run_settings(config: str) -> Settings:
    r"""A run's settings by full path, without what it is called and where it lies.

    Args:
        config: the text of its config.yaml.

    Example:
        >>> run_settings("paths: {data: /big/data, run: /r/a}\nmodel: {path: /big/data/warm}\nseed: 1")
        {'model.path': 'DATA/warm', 'seed': 1}
    """
    paths = OmegaConf.create(config).get("paths") or {}
    return {
        key: _without_place(value, paths) if isinstance(value, str) else value
        for key, value in read_settings(config).items()
        if not key.startswith(_BOOKKEEPING)
    }


def _without_place(value: str, paths: Mapping[str, str]) -> str:
    """Name the folders of data and runs instead of saying where this machine has them."""
    for name in ("data", "runs"):
        if paths.get(name):
            value = value.replace(str(paths[name]), name.upper())
    return value


def compare_settings(runs: Mapping[str, Sequence[Settings]]) -> dict[str, Any]:
    """Sort settings into those that all runs share, those of each arm, and those that go with the seed.

    Args:
        runs: the settings of each run of an arm, by the arm's name.

    Returns:
        `shared`, `by_arm` (only what is not shared) and `by_seed` (names only).

    Example:
        >>> one = {"seed": 1, "lr": 0.1, "steps": 5}
        >>> compare_settings({"a": [one, {**one, "seed": 2}], "b": [{**one, "lr": 0.2}]})
        {'shared': {'steps': 5}, 'by_arm': {'a': {'lr': 0.1}, 'b': {'lr': 0.2}}, 'by_seed': ['seed']}
    """
    by_seed = sorted({key for arm in runs.values() for key in _differing(arm)})
    everyone = [settings for arm in runs.values() for settings in arm]
    own = {*_differing(everyone), *by_seed}
    return {
        "shared": {key: value for key, value in everyone[0].items() if key not in own},
        "by_arm": {
            name: {key: value for key, value in arm[0].items() if key in own and key not in by_seed}
            for name, arm in runs.items()
        },
        "by_seed": by_seed,
    }


def _differing(runs: Iterable[Settings]) -> list[str]:
    """The settings that are not the same in all of these runs, or absent from some."""
    runs = list(runs)
    keys = dict.fromkeys(key for settings in runs for key in settings)
    return [
        key
        for key in keys
        if any(
            settings.get(key, _NOT_THERE) != runs[0].get(key, _NOT_THERE) for settings in runs[1:]
        )
    ]
