"""The supervised warm start of the tiny model.

Clean stage: true chains in both views, easy puzzles first, until the model reads well. Sloppy stage: the student's
demonstrations misread, which lowers what the model samples but hardly what it knows; the teacher's stay true,
and a part of them cites the reference. The gap between sampling and knowing is what rewards then close.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from rlsd_lightning.quickstart.demonstrations import Encoder, citing, clean, sloppy
from rlsd_lightning.quickstart.measure import measure
from rlsd_lightning.quickstart.pupil import Pupil, Views, Write
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.task import Puzzle
from rlsd_lightning.quickstart.views import encode_views

log = logging.getLogger(__name__)


@contextmanager
def one_thread() -> Iterator[None]:
    """Give equal weights whatever the number of cores.

    On cores that other processes keep busy, two threads were seen five times slower than one: they wait for each
    other after every one of many small products.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


@one_thread()
def warm_up(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    easy: Sequence[Puzzle],
    full: Sequence[Puzzle],
    held_out: Sequence[Puzzle],
    recipe: Recipe,
    seed: int,
) -> dict[str, float]:
    """Train the model in place, on one thread, and say how it went.

    Args:
        model: untrained; left in evaluation mode.
        processor: the model's processor.
        easy: puzzles of the first steps.
        full: puzzles of all other steps.
        held_out: puzzles for the measurements.
        recipe: how to train.
        seed: of the demonstrations and of the sampling that is measured.

    Returns:
        Steps, seconds and the figures of `measure`, by name.
    """
    started = time.perf_counter()
    rng = random.Random(seed)
    encoder = Encoder(processor.tokenizer, num_readings=len(full[0].readings))
    pupil = Pupil(model, encoder, recipe, rng)
    easy_views, full_views = (encode_views(part, processor, model) for part in (easy, full))

    def show(puzzle: Puzzle) -> str:
        cites = rng.random() < recipe.student_citing_fraction
        return citing(puzzle) if cites else sloppy(puzzle, recipe.slip_fraction, rng)

    def tell(puzzle: Puzzle) -> str:
        return citing(puzzle) if rng.random() < recipe.teacher_citing_fraction else clean(puzzle)

    lessons = Lessons(easy=easy_views, full=full_views, clean=clean, sloppy=show, tell=tell)
    num_clean_steps = teach(pupil, lessons)
    figures = {
        "clean_steps": num_clean_steps,
        "sloppy_steps": recipe.sloppy_steps,
        "train_s": round(time.perf_counter() - started, 2),
        **measure(model, processor, held_out, seed),
    }
    log.info("warm start: %s", in_words(figures))
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What a pupil is shown."""

    easy: Views
    """Puzzles of the first steps."""
    full: Views
    """Puzzles of all other steps."""
    clean: Write
    """The student's demonstrations of the clean stage."""
    sloppy: Write
    """Those of the sloppy stage."""
    tell: Write
    """The teacher's demonstrations of both."""


def teach(pupil: Pupil, lessons: Lessons) -> int:
    """Take the pupil through both stages, leave its model in evaluation mode, and return the steps of the first."""
    _clean_stage(pupil, lessons)
    num_clean_steps = pupil.num_steps
    _sloppy_stage(pupil, lessons)
    pupil.model.eval()
    return num_clean_steps


def in_words(figures: dict[str, float]) -> str:
    """Return figures as one line.

    Example:
        >>> in_words({"clean_steps": 240, "student_greedy_accuracy": 0.5})
        'clean_steps 240, student_greedy_accuracy 0.5'
    """
    return ", ".join(f"{name} {value:g}" for name, value in figures.items())


def _clean_stage(pupil: Pupil, lessons: Lessons) -> None:
    recipe = pupil.recipe
    while not pupil.is_ready:
        if pupil.num_steps >= recipe.max_clean_steps:
            log.warning(
                "warm start: after max_clean_steps=%d it has %s; needed are %.2f and %.3f. What follows starts from a "
                "weaker model. Raise max_clean_steps or choose another seed.",
                recipe.max_clean_steps,
                pupil,
                recipe.reading_accuracy,
                recipe.copy_accuracy,
            )
            return
        views = lessons.easy if pupil.num_steps < recipe.easy_steps else lessons.full
        pupil.step(views, lessons.clean, lessons.tell)


def _sloppy_stage(pupil: Pupil, lessons: Lessons) -> None:
    recipe = pupil.recipe
    for step in range(recipe.sloppy_steps):
        fall = 1 - 0.9 * step / recipe.sloppy_steps
        pupil.step(
            lessons.full,
            lessons.sloppy,
            lessons.tell,
            lr_fraction=recipe.sloppy_lr_fraction * fall,
        )
