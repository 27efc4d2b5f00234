"""Makes a text recipe's folder, once: questions with gold answers as a user's own, and a warmed-up Qwen3."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rlsd_lightning.quickstart.exercise import Exercise, TextTask
from rlsd_lightning.quickstart.once import check_sizes, make_once, write_record
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.text_model import build_text_model, build_text_tokenizer
from rlsd_lightning.quickstart.text_warmup import warm_up_text

_FOR_PICTURES = ("num_easy", "easy_steps", "student_citing_fraction", "teacher_citing_fraction")
_VERSION = 1  # raise it when the same settings would give other data or other weights


def prepare_text(
    folder: str | Path, num_train: int, num_test: int, seed: int, task: TextTask, recipe: Recipe
) -> Path:
    """Make `folder/data` and `folder/warm` unless they are already there.

    Several processes may call it at once: one works, the others wait for it.

    Args:
        folder: gets `data/train.jsonl`, `data/test.jsonl` and the Hugging Face folder `warm/`.
        num_train: problems to learn from by reinforcement.
        num_test: held-out problems.
        seed: of the drawings, the initial weights and the warm start.
        task: which exercises.
        recipe: of the warm start; without easy exercises and without citing, which text has not.

    Returns:
        The folder.

    Raises:
        ValueError: a number is out of range, the recipe asks for what text has not, or the folder holds something else, a
            part of a quickstart, or one made with other settings.
    """
    check_sizes(num_train=num_train, num_test=num_test)
    _check_recipe(recipe)
    settings = {
        "version": _VERSION,
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "task": {"name": type(task).__name__, **dataclasses.asdict(task)},
        "recipe": dataclasses.asdict(recipe),
    }
    return make_once(folder, settings, lambda partial: _write(partial, settings, task, recipe))


def _check_recipe(recipe: Recipe) -> None:
    """Refuse settings that would have no effect."""
    settings = {name: getattr(recipe, name) for name in _FOR_PICTURES}
    idle = {name: value for name, value in settings.items() if value != 0}
    if idle:
        raise ValueError(
            f"prepare.recipe has {', '.join(f'{name}={value}' for name, value in idle.items())}, but a task in text has no "
            "easy exercises and cites nothing. Needed is 0 for each. Set them to 0."
        )


def _write(folder: Path, settings: dict[str, Any], task: TextTask, recipe: Recipe) -> None:
    seed = settings["seed"]
    sizes = {
        "test": settings["num_test"],
        "train": settings["num_train"],
        "full": recipe.num_full,
        "held_out": recipe.num_held_out,
    }
    parts = draw_parts(task, seed, sizes)
    (folder / "data").mkdir(parents=True)
    task.write_files(folder / "data", seed)
    for split in ("train", "test"):
        write_rows(folder / "data", split, parts[split])
    tokenizer = build_text_tokenizer(task.words)
    model = build_text_model(tokenizer, seed)
    figures = warm_up_text(
        model,
        tokenizer,
        parts["full"],
        parts["held_out"],
        facts=task.facts,
        recipe=recipe,
        seed=seed,
    )
    model.save_pretrained(folder / "warm")
    tokenizer.save_pretrained(folder / "warm")
    write_record(folder, settings, figures)


def draw_parts(task: TextTask, seed: int, sizes: Mapping[str, int]) -> dict[str, list[Exercise]]:
    """Return exercises by the name of their part, none in two of them.

    They are shuffled first: simple exercises are few and come early in a stream without repetition.

    Args:
        task: draws them.
        seed: of the drawing and of the shuffling.
        sizes: how many each part gets.
    """
    exercises = list(islice(task.draw(seed), sum(sizes.values())))
    random.Random(f"parts {seed}").shuffle(exercises)
    shuffled = iter(exercises)
    return {name: list(islice(shuffled, size)) for name, size in sizes.items()}


def write_rows(folder: Path, split: str, exercises: Sequence[Exercise]) -> None:
    """Write one JSONL file in the format of a user's own.

    Args:
        folder: is there already.
        split: the file's name, and the beginning of each row's id.
        exercises: one row each.
    """
    rows = [
        {
            "id": f"{split}-{number:06d}",
            "problem": exercise.question,
            "answer": exercise.answer,
            **exercise.columns,
        }
        for number, exercise in enumerate(exercises, start=1)
    ]
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
