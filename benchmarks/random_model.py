"""Writes random Qwen3 models of any size, and the small Qwen3-VL of step.py, for benchmarks of engines.

They read bytes, so prompts are easy to make; how long completions get is decided by the sampling and the stop tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from rlsd_lightning.quickstart.text_model import build_text_tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a Qwen3 with heads of 64, half as many of them for keys, and an output embedding of its own."""

    hidden_size: int
    layers: int

    @classmethod
    def of(cls, name: str) -> Shape:
        """Read a shape from the command line.

        Example:
            >>> Shape.of("256x4")
            Shape(hidden_size=256, layers=4)
        """
        hidden_size, layers = name.split("x")
        return cls(int(hidden_size), int(layers))

    def __str__(self) -> str:
        """Return it as the command line has it."""
        return f"{self.hidden_size}x{self.layers}"


def write_text_model(shape: Shape, folder: Path, dtype: str, stop_ids: list[int]) -> None:
    """Write a random model and its tokenizer.

    Args:
        shape: of the model.
        folder: is made.
        dtype: of the weights on disk.
        stop_ids: tokens that end a completion.
    """
    tokenizer = build_text_tokenizer([])
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.hidden_size * 11 // 4,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(2, shape.hidden_size // 64),
        num_key_value_heads=max(1, shape.hidden_size // 128),
        head_dim=64,
        max_position_embeddings=4096,
        initializer_range=shape.hidden_size**-0.5,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(eos_token_id=stop_ids, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
