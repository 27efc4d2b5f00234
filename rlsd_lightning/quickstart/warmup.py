"""The supervised warm start of the tiny model.

Clean stage: true chains in both views, sparse grids first, until the model counts well. Sloppy stage: the student's
demonstrations miscount, which lowers what the model samples but hardly what it knows; the teacher's stay true,
and a part of them cites the reference. The gap between sampling and knowing is what rewards then close.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from rlsd_lightning.quickstart.demonstrations import Encoder, citing, clean, sloppy
from rlsd_lightning.quickstart.measure import measure
from rlsd_lightning.quickstart.shapes import Puzzle
from rlsd_lightning.quickstart.views import View, Views, encode_views

log = logging.getLogger(__name__)

_LOG_EVERY_N_STEPS = 50
_RECENT_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the warm start is run; the defaults are those it was measured with."""

    num_sparse: int = 1000
    """Puzzles with sparse grids."""
    num_full: int = 3000
    """Puzzles like those of the data set."""
    num_held_out: int = 256
    """Puzzles for the measurements."""
    student_batch: int = 32
    """Demonstrations of the student's view per step."""
    teacher_batch: int = 16
    """Demonstrations of the teacher's view per step."""
    learning_rate: float = 3e-3
    """Peak; reached after lr_warmup_steps, falls to a tenth over the sloppy stage."""
    lr_warmup_steps: int = 30
    """Steps over which the learning rate rises."""
    count_weight: float = 4.0
    """How many times a count weighs in the loss what another token weighs: counts are all there is to learn."""
    sparse_steps: int = 100
    """Clean steps on sparse grids, which are easier to count, before full ones."""
    max_clean_steps: int = 500
    """The clean stage ends here at the latest."""
    count_accuracy: float = 0.95
    """The clean stage ends when this fraction of counts is the model's first choice."""
    sloppy_steps: int = 60
    """Steps of the sloppy stage."""
    slip_fraction: float = 0.45
    """Probability that a count in a sloppy demonstration is off by one."""
    student_citing_fraction: float = 0.01
    """Sloppy-stage student demonstrations that cite a reference they do not see."""
    teacher_citing_fraction: float = 0.5
    """Teacher demonstrations that cite the reference."""


def warm_up(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    sparse: Sequence[Puzzle],
    full: Sequence[Puzzle],
    held_out: Sequence[Puzzle],
    recipe: Recipe,
    seed: int,
) -> dict[str, float]:
    """Train the model in place and say how it went.

    Args:
        model: untrained; left in evaluation mode.
        processor: the model's processor.
        sparse: puzzles of the first steps.
        full: puzzles of all other steps.
        held_out: puzzles for the measurements.
        recipe: how to train.
        seed: of the demonstrations and of the sampling that is measured.

    Returns:
        Steps, seconds and the figures of `measure`, by name.
    """
    started = time.perf_counter()
    rng = random.Random(seed)
    pupil = _Pupil(model, processor, recipe, rng)
    easy, hard = (encode_views(puzzles, processor, model) for puzzles in (sparse, full))
    _clean_stage(pupil, easy, hard)
    num_clean_steps = pupil.num_steps
    _sloppy_stage(pupil, hard)
    model.eval()
    figures = {
        "clean_steps": num_clean_steps,
        "sloppy_steps": recipe.sloppy_steps,
        "train_s": round(time.perf_counter() - started, 2),
        **measure(model, processor, held_out, seed),
    }
    log.info("warm start: %s", ", ".join(f"{name} {value:g}" for name, value in figures.items()))
    return figures


class _Pupil:
    """The model in training, with its optimizer and what it got right lately."""

    def __init__(
        self,
        model: Qwen3VLForConditionalGeneration,
        processor: Qwen3VLProcessor,
        recipe: Recipe,
        rng: random.Random,
    ) -> None:
        self.model, self.recipe, self.rng = model.train(), recipe, rng
        self.encoder = Encoder(processor.tokenizer)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.num_steps = 0
        self.recent: deque[float] = deque(maxlen=_RECENT_STEPS)
        self.started = time.perf_counter()

    @property
    def count_accuracy(self) -> float:
        """Fraction of the student's demonstrated counts that were the first choice, over the recent steps."""
        return sum(self.recent) / _RECENT_STEPS

    def step(
        self,
        views: Views,
        student_text: Callable[[Puzzle], str],
        teacher_text: Callable[[Puzzle], str],
        lr_fraction: float = 1.0,
    ) -> None:
        """Take one optimizer step on freshly written demonstrations of both views."""
        rise = min(1.0, (self.num_steps + 1) / self.recipe.lr_warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * rise * lr_fraction
        student = self._score(views.student, views.puzzles, student_text, self.recipe.student_batch)
        teacher = self._score(views.teacher, views.puzzles, teacher_text, self.recipe.teacher_batch)
        loss, weight = student[0] + teacher[0], student[1] + teacher[1]
        self.optimizer.zero_grad()
        (loss / weight).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.recent.append(student[2])
        self.num_steps += 1
        if self.num_steps % _LOG_EVERY_N_STEPS == 0:
            seconds = time.perf_counter() - self.started
            message = "warm start: step %d, count accuracy %.2f, %.0f s"
            log.info(message, self.num_steps, self.count_accuracy, seconds)

    def _score(
        self, view: View, puzzles: Sequence[Puzzle], write: Callable[[Puzzle], str], batch_size: int
    ) -> tuple[Tensor, Tensor, float]:
        """Return the summed loss, the sum of its weights and the accuracy of the counts."""
        rows = self.rng.sample(range(len(puzzles)), min(batch_size, len(puzzles)))
        batch = self.encoder.encode([write(puzzles[row]) for row in rows])
        logits = view.completion_logits(self.model, rows, batch.token_ids)
        weights = batch.mask + (self.recipe.count_weight - 1) * batch.count_mask
        losses = cross_entropy(logits.flatten(0, 1), batch.token_ids.flatten(), reduction="none")
        right = (logits.argmax(-1) == batch.token_ids)[batch.count_mask]
        return (losses * weights.flatten()).sum(), weights.sum(), right.float().mean().item()


def _clean_stage(pupil: _Pupil, easy: Views, hard: Views) -> None:
    recipe = pupil.recipe
    tell = _teller(recipe, pupil.rng)
    for _ in range(recipe.sparse_steps):
        pupil.step(easy, clean, tell)
    pupil.recent.clear()
    while pupil.count_accuracy < recipe.count_accuracy:
        if pupil.num_steps >= recipe.max_clean_steps:
            log.warning(
                "warm start: count accuracy is %.2f after max_clean_steps=%d, needed is %.2f; what follows starts "
                "from a weaker model. Raise max_clean_steps or choose another seed.",
                pupil.count_accuracy,
                recipe.max_clean_steps,
                recipe.count_accuracy,
            )
            return
        pupil.step(hard, clean, tell)


def _sloppy_stage(pupil: _Pupil, views: Views) -> None:
    recipe, rng = pupil.recipe, pupil.rng

    def show(puzzle: Puzzle) -> str:
        cites = rng.random() < recipe.student_citing_fraction
        return citing(puzzle) if cites else sloppy(puzzle, recipe.slip_fraction, rng)

    tell = _teller(recipe, rng)
    for step in range(recipe.sloppy_steps):
        pupil.step(views, show, tell, lr_fraction=1 - 0.9 * step / recipe.sloppy_steps)


def _teller(recipe: Recipe, rng: random.Random) -> Callable[[Puzzle], str]:
    def tell(puzzle: Puzzle) -> str:
        return citing(puzzle) if rng.random() < recipe.teacher_citing_fraction else clean(puzzle)

    return tell
