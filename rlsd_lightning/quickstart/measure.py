"""What the tiny model can do: knowing, sampling and citing, in both views of held-out puzzles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from rlsd_lightning.quickstart.demonstrations import Encoder, clean
from rlsd_lightning.quickstart.task import Puzzle, true_solution
from rlsd_lightning.quickstart.views import View, Views, encode_views

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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sampled = _complete(
            model, processor, views.student, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
        )
        told = _complete(
            model, processor, views.teacher, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
        )
    greedy = _complete(model, processor, views.student, do_sample=False)
    return {
        "reading_accuracy": _reading_accuracy(model, processor, views),
        "student_greedy_accuracy": accuracy(greedy, puzzles),
        "student_sampled_accuracy": accuracy(sampled, puzzles),
        "student_citing_fraction": citing_fraction(sampled),
        "teacher_sampled_accuracy": accuracy(told, puzzles),
        "teacher_citing_fraction": citing_fraction(told),
    }


def _complete(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    view: View,
    **sampling: float,
) -> list[str]:
    rows = model.generate(**view.inputs(), max_new_tokens=_MAX_COMPLETION_TOKENS, **sampling)
    completions = rows[:, view.prompt_ids.shape[1] :]
    return processor.batch_decode(completions, skip_special_tokens=True)


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


def accuracy(texts: Sequence[str], puzzles: Sequence[Puzzle]) -> float:
    """Fraction of texts that end in the right answer to their puzzle."""
    answers = [f"<answer>{true_solution(puzzle).answer}</answer>" for puzzle in puzzles]
    return sum(map(str.endswith, texts, answers)) / len(puzzles)


def citing_fraction(texts: Sequence[str]) -> float:
    """Fraction of texts that speak of a reference.

    Example:
        >>> citing_fraction(["<thought>reference</thought>", "<thought>red1</thought>"])
        0.5
    """
    return sum("reference" in text for text in texts) / len(texts)
