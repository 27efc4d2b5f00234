"""Writes random Qwen3 models of any size, and the small Qwen3-VL of step.py, for benchmarks of engines.

They read bytes, so prompts are easy to make; how long completions get is decided by the sampling and the stop tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from rlsd_lightning.quickstart.text_model import build_text_tokenizer
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor

ONE_STOPS_IN = 8
"""Tokens of the vocabulary, where lengths are uneven."""


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


def write_text_model(shape: Shape, folder: Path, dtype: str, uneven: bool) -> None:
    """Write a random model and its tokenizer.

    Args:
        shape: of the model.
        folder: is made.
        dtype: of the weights on disk.
        uneven: whether one token in eight ends a completion; otherwise none does.
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
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).to(getattr(torch, dtype))
    never = len(tokenizer) - 1
    _never_draw(model, never)
    _save(model, tokenizer, tokenizer, folder, stop_ids(len(tokenizer), never, uneven))


@torch.no_grad()
def _never_draw(model: Qwen3ForCausalLM, token: int) -> None:
    """Give every state one positive component, which no layer changes and only this token's logit depends on."""
    model.get_input_embeddings().weight[:, 0] = 4.0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    head = model.get_output_embeddings().weight
    head[:, 0] = 0.0
    head[token] = 0.0
    head[token, 0] = -1000.0


def stop_ids(vocabulary: int, never: int, uneven: bool) -> list[int]:
    """Return the tokens that end a completion; vLLM takes none from outside the vocabulary.

    Args:
        vocabulary: its size. A random model draws all of its tokens about as often.
        never: a token that is not drawn.
        uneven: whether completions shall stop.

    Example:
        >>> stop_ids(32, 31, uneven=True), stop_ids(32, 31, uneven=False)
        ([0, 8, 16, 24], [31])
    """
    return list(range(0, vocabulary, ONE_STOPS_IN)) if uneven else [never]


def write_vision_model(folder: Path, uneven: bool) -> None:
    """Write the quickstart's Qwen3-VL, untrained, and its processor.

    Args:
        folder: is made.
        uneven: whether one token in eight ends a completion; otherwise none does.
    """
    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0)
    image = model.config.image_token_id  # banned by both engines
    ends = stop_ids(len(processor.tokenizer), image, uneven)
    _save(model, processor.tokenizer, processor, folder, ends)


def _save(model: Any, tokenizer: Any, reader: Any, folder: Path, ends: list[int]) -> None:
    """Write both, with these stop tokens in the place of those that there were."""
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    model.config.get_text_config().eos_token_id = None
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0)
    model.save_pretrained(folder)
    reader.save_pretrained(folder)
