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

from rlsd_lightning.quickstart.shapes import draw_puzzles, write_dataset
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor
from rlsd_lightning.quickstart.warmup import Recipe, warm_up

log = logging.getLogger(__name__)

RECORD = Path("warm") / "quickstart.json"
_PARTS = ("data/train.jsonl", "data/test.jsonl", "warm/config.json", "warm/model.safetensors")
_SPARSE_FRACTION = 0.4
_NUM_SPARSE, _NUM_FULL, _NUM_HELD_OUT = 1000, 3000, 256
_VERSION = 1  # raise it when the same settings would give other data or other weights


def prepare(
    folder: str | Path,
    num_train: int = 1600,
    num_test: int = 256,
    seed: int = 1,
    num_colours: int = 4,
    num_counted: int = 3,
    **recipe: Any,
) -> Path:
    """Make `folder/data` and `folder/warm` unless they are already there.

    Several processes may call it at once: one works, the others wait for it.

    Args:
        folder: gets `data/train.jsonl`, `data/test.jsonl`, `data/images/` and the Hugging Face folder `warm/`.
        num_train: problems to learn from by reinforcement.
        num_test: held-out problems.
        seed: of the drawings, the initial weights and the warm start.
        num_colours: how many colours the grids show (at most 6).
        num_counted: how many of them a question asks for.
        recipe: fields of `warmup.Recipe`.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds something else, or was made with other settings.
    """
    folder = Path(folder).absolute()
    settings = {
        "version": _VERSION,
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "num_colours": num_colours,
        "num_counted": num_counted,
        "recipe": dataclasses.asdict(Recipe(**recipe)),
    }
    if _is_complete(folder, settings):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _is_complete(folder, settings):
            _make(folder, settings)
    return folder


def _is_complete(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder was finished with these settings; one that was finished with others is refused."""
    if not (folder / RECORD).is_file() or not all((folder / part).is_file() for part in _PARTS):
        return False
    made_with = json.loads((folder / RECORD).read_text())["settings"]
    if made_with != settings:
        changed = [name for name in settings if made_with.get(name) != settings[name]]
        raise ValueError(
            f"prepare.folder {folder} was made with other settings: {', '.join(changed)} differ. A folder holds one "
            "quickstart. Set prepare.folder to a new one, or delete this one to have it made again."
        )
    return True


def _make(folder: Path, settings: dict[str, Any]) -> None:
    _refuse_foreign_files(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(
        partial, ignore_errors=True
    )  # left by a process that was killed: we hold the lock
    started = time.perf_counter()
    log.info(
        "quickstart: drawing the data and warming the model up in %s (once, about a minute)", folder
    )
    _write(partial, settings)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    log.info("quickstart: made %s in %.0f s", folder, time.perf_counter() - started)


def _refuse_foreign_files(folder: Path) -> None:
    """Raise unless all that stands in the folder is an unfinished quickstart's, which may be deleted."""
    if not folder.exists():
        return
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - {"data", "warm"}:
        raise ValueError(
            f"prepare.folder {folder} holds files that are not the quickstart's. Needed is a folder that is empty or "
            "does not exist. Set prepare.folder to such a one."
        )


def _write(folder: Path, settings: dict[str, Any]) -> None:
    seed, recipe = settings["seed"], Recipe(**settings["recipe"])
    task = (settings["num_colours"], settings["num_counted"])
    puzzles = draw_puzzles(f"quickstart {seed}", *task)
    test = list(islice(puzzles, settings["num_test"]))
    train = list(islice(puzzles, settings["num_train"]))
    write_dataset(folder / "data", {"train": train, "test": test})

    processor = build_processor()
    model = build_model(processor.tokenizer, seed)
    figures = warm_up(
        model,
        processor,
        sparse=list(islice(draw_puzzles(f"sparse {seed}", *task, _SPARSE_FRACTION), _NUM_SPARSE)),
        full=list(islice(puzzles, _NUM_FULL)),
        held_out=list(islice(puzzles, _NUM_HELD_OUT)),
        recipe=recipe,
        seed=seed,
    )
    model.save_pretrained(folder / "warm")
    processor.save_pretrained(folder / "warm")
    record = {"settings": settings, "measured": figures}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
