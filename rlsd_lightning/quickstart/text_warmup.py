"""The supervised warm start of a text recipe's model.

The student learns true responses, then sloppy ones, which lowers what it samples but hardly what it knows. The teacher,
who reads the gold answer, is shown true responses all the time.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from rlsd_lightning.quickstart.exercise import Exercise
from rlsd_lightning.quickstart.measure import accuracy, complete_all
from rlsd_lightning.quickstart.pupil import Pupil
from rlsd_lightning.quickstart.recipe import Recipe
from rlsd_lightning.quickstart.text_views import TextEncoder, encode_text_views
from rlsd_lightning.quickstart.warmup import Lessons, in_words, one_thread, teach

log = logging.getLogger(__name__)

_MAX_COMPLETION_TOKENS = 96


@one_thread()
def warm_up_text(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    full: Sequence[Exercise],
    held_out: Sequence[Exercise],
    *,
    facts: Sequence[str],
    recipe: Recipe,
    seed: int,
) -> dict[str, float]:
    """Train the model in place, on one thread, and say how it went.

    Args:
        model: untrained; left in evaluation mode.
        tokenizer: the model's.
        full: exercises to learn from.
        held_out: exercises for the measurements.
        facts: see TextTask.facts.
        recipe: how to train.
        seed: of the demonstrations and of the sampling that is measured.

    Returns:
        Steps, seconds and fractions of right answers, by name.
    """
    started, rng = time.perf_counter(), random.Random(seed)
    views = encode_text_views(full, tokenizer)

    def clean(exercise: Exercise) -> str:
        return exercise.respond()

    def sloppy(exercise: Exercise) -> str:
        return exercise.respond_sloppily(recipe.slip_fraction, rng)

    pupil = Pupil(model, TextEncoder(tokenizer, facts), recipe, rng)
    lessons = Lessons(easy=views, full=views, clean=clean, sloppy=sloppy, tell=clean)
    num_clean_steps = teach(pupil, lessons)
    figures = {
        "clean_steps": num_clean_steps,
        "sloppy_steps": recipe.sloppy_steps,
        "train_s": round(time.perf_counter() - started, 2),
        **measure_text(model, tokenizer, held_out, seed),
    }
    log.info("warm start: %s", in_words(figures))
    return figures


def measure_text(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    exercises: Sequence[Exercise],
    seed: int,
) -> dict[str, float]:
    """Return fractions of responses that end in the gold answer, letter by letter.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        exercises: held out from training.
        seed: of the sampling.
    """
    views, answers = encode_text_views(exercises, tokenizer), [e.answer for e in exercises]
    written = complete_all(
        model, tokenizer, views.student, views.teacher, seed, _MAX_COMPLETION_TOKENS
    )
    return {
        "student_greedy_accuracy": accuracy(written.greedy, answers),
        "student_sampled_accuracy": accuracy(written.sampled, answers),
        "teacher_sampled_accuracy": accuracy(written.told, answers),
    }
