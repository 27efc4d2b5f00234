"""Finds the runs below the folders that a user names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlsd_lightning.run_folder import CONFIG

_WHAT = "a run's folder (it holds config.yaml and metrics/) or a folder of runs"


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """List the runs that were named: a run's folder itself, or all runs below any other folder.

    Args:
        folders: what the user named; a run that is named twice counts once.

    Returns:
        Folders with config.yaml, in the order of the names, then by path.

    Raises:
        ValueError: a folder does not exist or holds no run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(
                f"compare: {folder} is {'no folder' if folder.exists() else 'not there'}, needs {_WHAT}. "
                "Give the path that the run printed when it started."
            )
        runs = sorted(_below(folder), key=_natural)
        if not runs:
            raise ValueError(
                f"compare: {folder} holds no run, needs {_WHAT}. Runs lie in EXP_DIR/NAME/version_N, those of a "
                "sweep one folder deeper; give one of these folders."
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _below(folder: Path) -> Iterator[Path]:
    """Yield the run folders at or below a folder; a run holds no other run."""
    for place, subfolders, files in os.walk(folder):
        if CONFIG in files:
            subfolders.clear()
            yield Path(place)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort version_10 after version_2."""
    return [
        (0, int(digits), "") if digits.isdigit() else (1, 0, digits)
        for part in path.parts
        for digits in part.rsplit("_", 1)
    ]
