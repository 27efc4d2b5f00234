"""Exercises as the model reads them: without the gold answer (student) and with it (teacher).

Rendered by the model's own chat template, as the prompts of a later run are. Prompts differ in length and are padded
on the left, so that completions begin at one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlsd_lightning.quickstart.demonstrations import EncodedTexts
from rlsd_lightning.quickstart.exercise import Exercise


@dataclass(frozen=True, slots=True)
class TextView:
    """One view of N exercises."""

    prompt_ids: Tensor
    """Chat template applied, up to where the assistant begins. [N, S]"""
    attention_mask: Tensor
    """1 at the prompt, 0 at its padding. [N, S]"""

    def inputs(self) -> dict[str, Tensor]:
        """Return what `generate` takes."""
        return {"input_ids": self.prompt_ids, "attention_mask": self.attention_mask}

    def completion_logits(
        self, model: PreTrainedModel, rows: Sequence[int], token_ids: Tensor
    ) -> Tensor:
        """Score given completions: the logits that predict each of their tokens.

        Args:
            model: the model to score with.
            rows: which exercises.
            token_ids: their completions, padded on the right. [B, T]

        Returns:
            Logits. [B, T, V]
        """
        index = torch.as_tensor(rows)
        mask = torch.cat([self.attention_mask[index], torch.ones_like(token_ids)], dim=1)
        logits = model(
            input_ids=torch.cat([self.prompt_ids[index], token_ids], dim=1),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            use_cache=False,
            logits_to_keep=token_ids.shape[1] + 1,
        ).logits
        return logits[:, :-1]


@dataclass(frozen=True, slots=True)
class TextViews:
    """Exercises with both of their views, row by row."""

    puzzles: Sequence[Exercise]
    student: TextView
    teacher: TextView


def encode_text_views(
    exercises: Sequence[Exercise], tokenizer: PreTrainedTokenizerFast
) -> TextViews:
    """Render and tokenise the exercises in both views."""
    told = [f"{exercise.question} reference: {exercise.answer}" for exercise in exercises]
    return TextViews(
        exercises,
        student=_encode([exercise.question for exercise in exercises], tokenizer),
        teacher=_encode(told, tokenizer),
    )


def _encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> TextView:
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        for text in texts
    ]
    batch = tokenizer(chats, padding=True, padding_side="left", return_tensors="pt")
    return TextView(batch["input_ids"], batch["attention_mask"])


class TextEncoder:
    """Turns responses into tokens and finds the facts among them.

    Args:
        tokenizer: of the tiny model.
        facts: words and characters that may be right or wrong; each is one token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, facts: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self._fact_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(facts)))

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Tokenise; in text every fact is a reading."""
        batch = self.tokenizer(
            [text + self.tokenizer.eos_token for text in texts],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        token_ids = batch["input_ids"]
        is_fact = torch.isin(token_ids, self._fact_ids)
        return EncodedTexts(token_ids, batch["attention_mask"].bool(), is_fact, is_fact)
