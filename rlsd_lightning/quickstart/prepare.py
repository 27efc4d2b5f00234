"""Makes the quickstart's folder: a data set in the format of a user's own, and a warmed-up model.

Runs once per folder: a second call finds the folder complete and returns at once. Everything is written beside
the folder and renamed at the end, so a folder that exists under its name was finished.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock

from rlsd_lightning.quickstart.dataset import write_dataset
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.shapes import Shapes
from rlsd_lightning.quickstart.task import Task
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor
from rlsd_lightning.quickstart.warmup import warm_up

log = logging.getLogger(__name__)

RECORD = Path("warm") / "quickstart.json"
_PARTS = ("data/train.jsonl", "data/test.jsonl", "warm/model.safetensors", str(RECORD))
_VERSION = 1  # raise it when the same settings would give other data or other weights


def prepare(
    folder: str | Path,
    num_train: int = 1600,
    num_test: int = 256,
    seed: int = 1,
    task: Task | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Make `folder/data` and `folder/warm` unless they are already there.

    Several processes may call it at once: one works, the others wait for it.

    Args:
        folder: gets `data/train.jsonl`, `data/test.jsonl`, `data/images/` and the Hugging Face folder `warm/`.
        num_train: problems to learn from by reinforcement.
        num_test: held-out problems.
        seed: of the drawings, the initial weights and the warm start.
        task: which puzzles; None for the quickstart's shapes.
        recipe: of the warm start; None for the measured one.

    Returns:
        The folder.

    Raises:
        ValueError: a number is out of range, or the folder holds something else, a part of a quickstart, or one made with other settings.
    """
    for name, number in {"num_train": num_train, "num_test": num_test}.items():
        if number < 1:
            raise ValueError(
                f"prepare.{name} is {number}. Needed is 1 or more problems. Correct it."
            )
    task, recipe = task or Shapes(), recipe or Recipe()
    folder = Path(folder).absolute()
    settings = {
        "version": _VERSION,
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "task": {"name": type(task).__name__, **dataclasses.asdict(task)},
        "recipe": dataclasses.asdict(recipe),
    }
    if _is_complete(folder, settings):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _is_complete(folder, settings):
            _make(folder, settings, task, recipe)
    return folder


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


def _make(folder: Path, settings: dict[str, Any], task: Task, recipe: Recipe) -> None:
    started = time.perf_counter()
    log.info("quickstart: draws its data and warms its model up in %s (once)", folder)
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # left by a killed process: a living one would hold the lock
    _write(partial, settings, task, recipe)
    partial.replace(folder)
    log.info("quickstart: made %s in %.0f s", folder, time.perf_counter() - started)


def _write(folder: Path, settings: dict[str, Any], task: Task, recipe: Recipe) -> None:
    seed = settings["seed"]
    streams = task.draw(seed)
    test = list(islice(streams.held_out, settings["num_test"]))
    train = list(islice(streams.train, settings["num_train"]))
    write_dataset(folder / "data", {"train": train, "test": test})

    processor = build_processor()
    model = build_model(processor.tokenizer, seed)
    figures = warm_up(
        model,
        processor,
        easy=list(islice(streams.easy, recipe.num_easy)),
        full=list(islice(streams.train, recipe.num_full)),
        held_out=list(islice(streams.held_out, recipe.num_held_out)),
        recipe=recipe,
        seed=seed,
    )
    model.save_pretrained(folder / "warm")
    processor.save_pretrained(folder / "warm")
    record = {"settings": settings, "measured": figures}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
