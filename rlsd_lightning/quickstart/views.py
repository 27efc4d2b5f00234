"""Puzzles as the model reads them: without the reference (student) and with it (teacher).

Rendered by the model's own chat template, as the prompts of a later run are. All prompts of a view have one
length and one layout, so a batch needs no padding and its rotary positions are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from rlsd_lightning.quickstart.task import Puzzle, reference


@dataclass(frozen=True, slots=True)
class View:
    """One view of N puzzles."""

    prompt_ids: Tensor
    """Chat template applied, up to where the assistant begins. [N, S]"""
    mm_token_type_ids: Tensor
    """1 at image tokens, 0 elsewhere. [N, S]"""
    position_ids: Tensor
    """Rotary positions, the same for every puzzle. [3, 1, S]"""
    pixel_values: Tensor
    """Patches of each puzzle's image; the views of a puzzle share them. [N, num_patches, patch_dim]"""
    grids: Tensor
    """Patches along time, height and width. [N, 3]"""

    def inputs(self) -> dict[str, Tensor]:
        """Return what `generate` takes."""
        return {
            "input_ids": self.prompt_ids,
            "attention_mask": torch.ones_like(self.prompt_ids),
            "mm_token_type_ids": self.mm_token_type_ids,
            "pixel_values": self.pixel_values.flatten(0, 1),
            "image_grid_thw": self.grids,
        }

    def completion_logits(
        self, model: Qwen3VLForConditionalGeneration, rows: Sequence[int], token_ids: Tensor
    ) -> Tensor:
        """Score given completions: the logits that predict each of their tokens.

        Padding stands on the right, where causal attention never looks back from, so it needs no mask.

        Args:
            model: the model to score with.
            rows: which puzzles.
            token_ids: their completions, padded on the right. [B, T]

        Returns:
            Logits. [B, T, V]
        """
        num_tokens = token_ids.shape[1]
        index = torch.as_tensor(rows)
        after = self.position_ids.max() + 1 + torch.arange(num_tokens)
        position_ids = torch.cat([self.position_ids, after.expand(3, 1, -1)], dim=-1)
        logits = model(
            input_ids=torch.cat([self.prompt_ids[index], token_ids], dim=1),
            position_ids=position_ids.expand(3, len(rows), -1),
            pixel_values=self.pixel_values[index].flatten(0, 1),
            image_grid_thw=self.grids[index],
            use_cache=False,
            logits_to_keep=num_tokens + 1,
        ).logits
        return logits[:, :-1]


@dataclass(frozen=True, slots=True)
class Views:
    """Puzzles with both of their views, row by row."""

    puzzles: Sequence[Puzzle]
    student: View
    teacher: View


def encode_views(
    puzzles: Sequence[Puzzle], processor: Qwen3VLProcessor, model: Qwen3VLForConditionalGeneration
) -> Views:
    """Render and tokenise the puzzles in both views."""
    questions = [puzzle.question for puzzle in puzzles]
    told = [f"{puzzle.question} reference: {reference(puzzle)}" for puzzle in puzzles]
    images = [puzzle.render() for puzzle in puzzles]
    student = _encode(questions, images, processor, model)
    teacher = _encode(told, images, processor, model)
    return Views(puzzles, student, replace(teacher, pixel_values=student.pixel_values))


def _encode(
    texts: Sequence[str],
    images: Sequence[Image.Image],
    processor: Qwen3VLProcessor,
    model: Qwen3VLForConditionalGeneration,
) -> View:
    chats = [_chat(text, processor) for text in texts]
    batch = processor(text=chats, images=list(images), return_tensors="pt")
    position_ids, _ = model.model.get_rope_index(
        batch["input_ids"][:1], batch["mm_token_type_ids"][:1], batch["image_grid_thw"][:1]
    )
    return View(
        prompt_ids=batch["input_ids"],
        mm_token_type_ids=batch["mm_token_type_ids"],
        position_ids=position_ids,
        pixel_values=batch["pixel_values"].unflatten(0, (len(images), -1)),
        grids=batch["image_grid_thw"],
    )


def _chat(text: str, processor: Qwen3VLProcessor) -> str:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
