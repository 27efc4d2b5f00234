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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
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

Write = Callable[[Puzzle], str]


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
    """Reached after lr_warmup_steps."""
    lr_warmup_steps: int = 30
    """Steps over which the learning rate rises."""
    fact_weight: float = 4.0
    """What a colour or a digit weighs in the loss; every other token weighs 1."""
    sparse_steps: int = 100
    """Clean steps on sparse grids, which are easier to count, before full ones."""
    max_clean_steps: int = 500
    """The clean stage ends here at the latest."""
    count_accuracy: float = 0.95
    """Needed to end the clean stage: fraction of the student's counts that are its first choice."""
    copy_accuracy: float = 0.99
    """Needed to end the clean stage: fraction of the teacher's facts that are its first choice."""
    sloppy_steps: int = 60
    """Steps of the sloppy stage."""
    sloppy_lr_fraction: float = 0.5
    """The learning rate at the sloppy stage's beginning, over learning_rate; it falls to a tenth of that."""
    slip_fraction: float = 0.45
    """Probability that a count in a sloppy demonstration is off by one."""
    student_citing_fraction: float = 0.01
    """Sloppy-stage student demonstrations that cite a reference they do not see."""
    teacher_citing_fraction: float = 0.5
    """Teacher demonstrations that cite the reference."""


@contextmanager
def _one_thread() -> Iterator[None]:
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


@_one_thread()
def warm_up(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    sparse: Sequence[Puzzle],
    full: Sequence[Puzzle],
    held_out: Sequence[Puzzle],
    recipe: Recipe,
    seed: int,
) -> dict[str, float]:
    """Train the model in place, on one thread, and say how it went.

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
        self.counts_right: deque[float] = deque(maxlen=_RECENT_STEPS)
        self.facts_right: deque[float] = deque(maxlen=_RECENT_STEPS)
        self.started = time.perf_counter()

    @property
    def is_ready(self) -> bool:
        """Whether it counts as a student and copies as a teacher well enough, over the recent steps."""
        return (
            self.num_steps > self.recipe.sparse_steps + _RECENT_STEPS
            and _mean(self.counts_right) >= self.recipe.count_accuracy
            and _mean(self.facts_right) >= self.recipe.copy_accuracy
        )

    def step(self, views: Views, show: Write, tell: Write, lr_fraction: float = 1.0) -> None:
        """Take one optimizer step on freshly written demonstrations of both views.

        Args:
            views: puzzles to draw from.
            show: writes a demonstration for the student's view.
            tell: writes a demonstration for the teacher's view.
            lr_fraction: multiplies the learning rate.
        """
        rise = min(1.0, (self.num_steps + 1) / self.recipe.lr_warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * rise * lr_fraction
        student = self._score(views.student, views.puzzles, show, self.recipe.student_batch)
        teacher = self._score(views.teacher, views.puzzles, tell, self.recipe.teacher_batch)
        self.optimizer.zero_grad()
        ((student.loss + teacher.loss) / (student.weight + teacher.weight)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.counts_right.append(student.counts_right)
        self.facts_right.append(teacher.facts_right)
        self.num_steps += 1
        if self.num_steps % _LOG_EVERY_N_STEPS == 0:
            log.info("warm start: step %d, %s", self.num_steps, self)

    def _score(
        self, view: View, puzzles: Sequence[Puzzle], write: Write, batch_size: int
    ) -> _Score:
        rows = self.rng.sample(range(len(puzzles)), min(batch_size, len(puzzles)))
        batch = self.encoder.encode([write(puzzles[row]) for row in rows])
        logits = view.completion_logits(self.model, rows, batch.token_ids)
        weights = batch.mask + (self.recipe.fact_weight - 1) * batch.fact_mask
        losses = cross_entropy(logits.flatten(0, 1), batch.token_ids.flatten(), reduction="none")
        is_right = (logits.argmax(-1) == batch.token_ids).float()
        return _Score(
            loss=(losses * weights.flatten()).sum(),
            weight=weights.sum(),
            counts_right=is_right[batch.count_mask].mean().item(),
            facts_right=is_right[batch.fact_mask].mean().item(),
        )

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.started
        counts, facts = _mean(self.counts_right), _mean(self.facts_right)
        return f"student's counts {counts:.2f}, teacher's facts {facts:.3f} right, {seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class _Score:
    """How the model did on one view's demonstrations."""

    loss: Tensor
    """Weighted sum over tokens. []"""
    weight: Tensor
    """Sum of the weights. []"""
    counts_right: float
    """Fraction of counts that were the first choice; NaN without counts."""
    facts_right: float
    """The same for facts."""


def _mean(values: Collection[float]) -> float:
    return sum(values) / max(1, len(values))


def _clean_stage(pupil: _Pupil, easy: Views, hard: Views) -> None:
    recipe = pupil.recipe
    tell = _teller(recipe, pupil.rng)
    while not pupil.is_ready:
        if pupil.num_steps >= recipe.max_clean_steps:
            log.warning(
                "warm start: after max_clean_steps=%d it has %s; needed are %.2f and %.3f. What follows starts from a "
                "weaker model. Raise max_clean_steps or choose another seed.",
                recipe.max_clean_steps,
                pupil,
                recipe.count_accuracy,
                recipe.copy_accuracy,
            )
            return
        pupil.step(easy if pupil.num_steps < recipe.sparse_steps else hard, clean, tell)


def _sloppy_stage(pupil: _Pupil, views: Views) -> None:
    recipe, rng = pupil.recipe, pupil.rng

    def show(puzzle: Puzzle) -> str:
        cites = rng.random() < recipe.student_citing_fraction
        return citing(puzzle) if cites else sloppy(puzzle, recipe.slip_fraction, rng)

    tell = _teller(recipe, rng)
    for step in range(recipe.sloppy_steps):
        fall = 1 - 0.9 * step / recipe.sloppy_steps
        pupil.step(views, show, tell, lr_fraction=recipe.sloppy_lr_fraction * fall)


def _teller(recipe: Recipe, rng: random.Random) -> Write:
    def tell(puzzle: Puzzle) -> str:
        return citing(puzzle) if rng.random() < recipe.teacher_citing_fraction else clean(puzzle)

    return tell
