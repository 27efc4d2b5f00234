"""What a tiny model can do: knowing, sampling and citing, in both views of held-out puzzles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from rlsd_lightning.quickstart.demonstrations import Encoder, clean
from rlsd_lightning.quickstart.task import Puzzle, true_solution
from rlsd_lightning.quickstart.views import Views, encode_views

_MAX_COMPLETION_TOKENS = 64


@torch.no_grad()
def measure(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    puzzles: Sequence[Puzzle],
    seed: int,
) -> dict[str, float]:
    """Return fractions of the puzzles, by name; the global random state stays as it was.

    Args:
        model: in evaluation mode.
        processor: the model's processor.
        puzzles: held out from training.
        seed: of the sampling.
    """
    views = encode_views(puzzles, processor, model)
    answers = [true_solution(puzzle).answer for puzzle in puzzles]
    written = complete_all(model, processor, views.student, views.teacher, seed)
    return {
        "reading_accuracy": _reading_accuracy(model, processor, views),
        "student_greedy_accuracy": accuracy(written.greedy, answers),
        "student_sampled_accuracy": accuracy(written.sampled, answers),
        "student_citing_fraction": citing_fraction(written.sampled),
        "teacher_sampled_accuracy": accuracy(written.told, answers),
        "teacher_citing_fraction": citing_fraction(written.told),
    }


class Prompts(Protocol):
    """One view, as `generate` takes it."""

    prompt_ids: Tensor
    """[N, S]"""

    def inputs(self) -> dict[str, Tensor]:
        """Return what `generate` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a model wrote, one text per puzzle."""

    sampled: list[str]
    """In the student's view, at temperature 1."""
    greedy: list[str]
    """In the student's view, the likeliest token each time."""
    told: list[str]
    """In the teacher's view, at temperature 1."""


@torch.no_grad()
def complete_all(
    model: PreTrainedModel,
    decoder: Qwen3VLProcessor | PreTrainedTokenizerBase,
    student: Prompts,
    teacher: Prompts,
    seed: int,
    max_completion_tokens: int = _MAX_COMPLETION_TOKENS,
) -> Written:
    """Let the model write in both views; the global random state stays as it was.

    Args:
        model: in evaluation mode.
        decoder: turns tokens into text.
        student: the view without the reference.
        teacher: the view with it.
        seed: of the sampling.
        max_completion_tokens: where a completion is cut off.
    """

    def complete(view: Prompts, **sampling: float) -> list[str]:
        rows = model.generate(**view.inputs(), max_new_tokens=max_completion_tokens, **sampling)
        return decoder.batch_decode(rows[:, view.prompt_ids.shape[1] :], skip_special_tokens=True)

    at_random = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sampled = complete(student, **at_random)
        told = complete(teacher, **at_random)
    return Written(sampled=sampled, greedy=complete(student, do_sample=False), told=told)


def _reading_accuracy(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, views: Views
) -> float:
    """Fraction of readings that are the first choice behind a true beginning of the chain."""
    batch = Encoder(processor.tokenizer, len(views.puzzles[0].readings)).encode(
        [clean(puzzle) for puzzle in views.puzzles]
    )
    logits = views.student.completion_logits(model, range(len(views.puzzles)), batch.token_ids)
    right = (logits.argmax(-1) == batch.token_ids)[batch.reading_mask]
    return right.float().mean().item()


def accuracy(texts: Sequence[str], answers: Sequence[str]) -> float:
    """Fraction of texts that end in the right answer.

    Example:
        >>> accuracy(["<thought>2+2=4</thought><answer>4</answer>", "<answer>5</answer>"], ["4", "4"])
        0.5
    """
    ends = [f"<answer>{answer}</answer>" for answer in answers]
    return sum(map(str.endswith, texts, ends)) / len(texts)


def citing_fraction(texts: Sequence[str]) -> float:
    """Fraction of texts that speak of a reference.

    Example:
        >>> citing_fraction(["<thought>reference</thought>", "<thought>red1</thought>"])
        0.5
    """
    return sum("reference" in text for text in texts) / len(texts)
