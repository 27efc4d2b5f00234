"""The tiny model in training: one supervised step on both views, and what it got right lately."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from rlsd_lightning.quickstart.demonstrations import EncodedTexts
from rlsd_lightning.quickstart.recipe import Recipe

log = logging.getLogger(__name__)

_LOG_EVERY_N_STEPS = 50
_RECENT_STEPS = 10

Write = Callable[[Any], str]
"""Writes a demonstration for a puzzle."""


class View(Protocol):
    """How the model reads N puzzles, as a student or as a teacher."""

    def completion_logits(
        self, model: PreTrainedModel, rows: Sequence[int], token_ids: Tensor
    ) -> Tensor:
        """Return the logits that predict each token of given completions, [B, T] -> [B, T, V]."""


class Views(Protocol):
    """Puzzles with both of their views, row by row."""

    @property
    def puzzles(self) -> Sequence[Any]:
        """What demonstrations are written for."""

    @property
    def student(self) -> View:
        """Without the reference."""

    @property
    def teacher(self) -> View:
        """With it."""


class EncodesTexts(Protocol):
    """Turns demonstrations into tokens and finds the facts among them."""

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Tokenise."""


class Pupil:
    """The model in training, with its optimizer and what it got right lately."""

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: EncodesTexts,
        recipe: Recipe,
        rng: random.Random,
    ) -> None:
        self.model, self.recipe, self.rng = model.train(), recipe, rng
        self.encoder = encoder
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.num_steps = 0
        self.readings_right: deque[float] = deque(maxlen=_RECENT_STEPS)
        self.facts_right: deque[float] = deque(maxlen=_RECENT_STEPS)
        self.started = time.perf_counter()

    @property
    def is_ready(self) -> bool:
        """Whether it reads as a student and copies as a teacher well enough, over the recent steps."""
        return (
            self.num_steps > self.recipe.easy_steps + _RECENT_STEPS
            and _mean(self.readings_right) >= self.recipe.reading_accuracy
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
        self.readings_right.append(student.readings_right)
        self.facts_right.append(teacher.facts_right)
        self.num_steps += 1
        if self.num_steps % _LOG_EVERY_N_STEPS == 0:
            log.info("warm start: step %d, %s", self.num_steps, self)

    def _score(self, view: View, puzzles: Sequence[Any], write: Write, batch_size: int) -> _Score:
        rows = self.rng.sample(range(len(puzzles)), min(batch_size, len(puzzles)))
        batch = self.encoder.encode([write(puzzles[row]) for row in rows])
        logits = view.completion_logits(self.model, rows, batch.token_ids)
        weights = batch.mask + (self.recipe.fact_weight - 1) * batch.fact_mask
        losses = cross_entropy(logits.flatten(0, 1), batch.token_ids.flatten(), reduction="none")
        is_right = (logits.argmax(-1) == batch.token_ids).float()
        return _Score(
            loss=(losses * weights.flatten()).sum(),
            weight=weights.sum(),
            readings_right=is_right[batch.reading_mask].mean().item(),
            facts_right=is_right[batch.fact_mask].mean().item(),
        )

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.started
        readings, facts = _mean(self.readings_right), _mean(self.facts_right)
        return (
            f"student's readings {readings:.2f}, teacher's facts {facts:.3f} right, {seconds:.0f} s"
        )


@dataclass(frozen=True, slots=True)
class _Score:
    """How the model did on one view's demonstrations."""

    loss: Tensor
    """Weighted sum over tokens. []"""
    weight: Tensor
    """Sum of the weights. []"""
    readings_right: float
    """Fraction of readings that were the first choice; NaN without readings."""
    facts_right: float
    """The same for facts."""


def _mean(values: Collection[float]) -> float:
    return sum(values) / max(1, len(values))
