"""A folder with a data set and a warmed-up model that is made once, however many processes ask for it.

Everything is written beside the folder and renamed at the end, so a folder that exists under its name was finished.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

log = logging.getLogger(__name__)

RECORD = Path("warm") / "quickstart.json"
_PARTS = ("data/train.jsonl", "data/test.jsonl", "warm/model.safetensors", str(RECORD))


def check_sizes(**sizes: int) -> None:
    """Refuse a data set without problems.

    Args:
        **sizes: numbers of problems, by the name of their setting.

    Raises:
        ValueError: one is below 1.
    """
    for name, number in sizes.items():
        if number < 1:
            raise ValueError(
                f"prepare.{name} is {number}. Needed is 1 or more problems. Correct it."
            )


def make_once(folder: str | Path, settings: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Return the folder; have it written unless it is there. Of several processes one works, the others wait.

    Args:
        folder: gets `data/train.jsonl`, `data/test.jsonl` and the Hugging Face folder `warm/`.
        settings: what it is made with, as `write_record` keeps it; a folder made with others is refused.
        write: fills an empty folder.

    Raises:
        ValueError: the folder holds something else, a part of a quickstart, or one made with other settings.
    """
    folder = Path(folder).absolute()
    if _is_complete(folder, settings):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _is_complete(folder, settings):
            _make(folder, write)
    return folder


def write_record(folder: Path, settings: dict[str, Any], figures: dict[str, float]) -> None:
    """Write what a folder was made with and what was measured of its model."""
    record = {"settings": settings, "measured": figures}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _is_complete(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder is there; one that is not this quickstart is refused, never overwritten."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    missing = [part for part in _PARTS if not (folder / part).is_file()]
    if missing:
        raise ValueError(
            f"prepare.folder {folder} is not empty, but lacks {', '.join(missing)}. Needed is a new folder, an empty "
            "one or a complete quickstart. Set prepare.folder to another one, or delete this one."
        )
    made_with = json.loads((folder / RECORD).read_text())["settings"]
    changed = [name for name in settings if made_with.get(name) != settings[name]]
    if changed:
        raise ValueError(
            f"prepare.folder {folder} was made with another {', '.join(changed)}. A folder holds one quickstart. "
            "Set prepare.folder to a new one, or delete this one to have it made again."
        )
    return True


def _make(folder: Path, write: Callable[[Path], None]) -> None:
    started = time.perf_counter()
    log.info("quickstart: draws its data and warms its model up in %s (once)", folder)
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # left by a killed process: a living one would hold the lock
    write(partial)
    partial.replace(folder)
    log.info("quickstart: made %s in %.0f s", folder, time.perf_counter() - started)
