"""A tiny, real Qwen3, which reads text only: byte tokenizer with a task's words, and an untrained Qwen3ForCausalLM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlsd_lightning.quickstart.tiny_model import (
    CHAT_TEMPLATE,
    INITIALIZER_RANGE,
    MAX_POSITIONS,
    build_tokenizer,
)

FORM = (
    "<thought>",
    "</thought>",
    "<answer>",
    "</answer>",
    " reference: ",
    "system",
    "user",
    "assistant",
)
"""Words of every text task."""


def build_text_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer of 256 bytes, Qwen's special tokens and whole words, with the quickstart's form of chat.

    Args:
        words: of the task, beside FORM.

    Example:
        >>> build_text_tokenizer(["lamp"]).tokenize("<answer>2 lamps</answer>")
        ['<answer>', '2', 'Ġ', 'lamp', 's', '</answer>']
    """
    tokenizer = build_tokenizer([*FORM, *words])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_text_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Build the untrained model, about 0.2 million weights in float32.

    Args:
        tokenizer: fixes the size of the vocabulary and the ids of the special tokens.
        seed: of the initial weights; the global random state stays as it was.
    """
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=padding,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=padding, do_sample=True
    )
    return model
