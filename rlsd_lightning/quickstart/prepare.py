"""Makes the quickstart's folder, once: a data set in the format of a user's own, and a warmed-up model."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any

from rlsd_lightning.quickstart.dataset import write_dataset
from rlsd_lightning.quickstart.once import check_sizes, make_once, write_record
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.shapes import Shapes
from rlsd_lightning.quickstart.task import Task
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor
from rlsd_lightning.quickstart.warmup import warm_up

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
    check_sizes(num_train=num_train, num_test=num_test)
    task, recipe = task or Shapes(), recipe or Recipe()
    settings = {
        "version": _VERSION,
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "task": {"name": type(task).__name__, **dataclasses.asdict(task)},
        "recipe": dataclasses.asdict(recipe),
    }
    return make_once(folder, settings, lambda partial: _write(partial, settings, task, recipe))


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
    write_record(folder, settings, figures)
