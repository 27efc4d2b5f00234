"""A tiny, real Qwen3-VL: byte tokenizer, processor and an untrained Qwen3VLForConditionalGeneration.

Built from configurations alone, nothing is downloaded. Every later station treats the saved folder as it treats
a downloaded model: same classes, same special tokens, same form of chat.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from rlsd_lightning.quickstart.shapes import COLOURS, SHAPES

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WORDS = (
    "<thought>",
    "</thought>",
    "<answer>",
    "</answer>",
    "reference",
    "system",
    "user",
    "assistant",
    *COLOURS,
    *SHAPES,
)
PATCH_PIXELS = 8
MERGED_PATCHES = 2
MAX_POSITIONS = 4096
INITIALIZER_RANGE = 0.15  # at this width the usual 0.02 learns several times slower

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}{{ '\\n' }}
{%- if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'text' -%}
{{ part.text }}
{%- else -%}
{{ raise_exception('A message part has type "' ~ part.type ~ '"; this model reads image, video and text.') }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant{{ '\\n' }}
{%- endif -%}
"""


def build_tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    """Build a tokenizer of 256 bytes, Qwen's special tokens and a few whole words.

    Args:
        words: each is one token wherever it stands; of two that fit, the longer one is taken.

    Example:
        >>> tokenizer = build_tokenizer()
        >>> tokenizer.tokenize("<thought>green2</thought>")
        ['<thought>', 'green', '2', '</thought>']
        >>> tokenizer.decode(tokenizer.encode("naive text: 2 + 2"))
        'naive text: 2 + 2'
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )


def build_processor() -> Qwen3VLProcessor:
    """Build the processor: one image token per 16 x 16 pixels, images resized to whole tokens."""
    cell = PATCH_PIXELS * MERGED_PATCHES
    sizes = {
        "patch_size": PATCH_PIXELS,
        "merge_size": MERGED_PATCHES,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": cell**2, "longest_edge": (16 * cell) ** 2},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=build_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3VLForConditionalGeneration:
    """Build the untrained model, about 0.3 million weights in float32.

    Args:
        tokenizer: fixes the size of the vocabulary and the ids of the special tokens.
        seed: of the initial weights; the global random state stays as it was.
    """
    ids = dict(
        zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True)
    )
    config = Qwen3VLConfig(
        text_config=_text_config(len(tokenizer), ids),
        vision_config=_vision_config(),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=True
    )
    return model


def _text_config(vocab_size: int, ids: dict[str, int]) -> dict:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": MAX_POSITIONS,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [8, 4, 4],
            "mrope_interleaved": True,
        },
        "initializer_range": INITIALIZER_RANGE,
        "tie_word_embeddings": True,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": None,
    }


def _vision_config() -> dict:
    return {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": PATCH_PIXELS,
        "spatial_merge_size": MERGED_PATCHES,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
        "initializer_range": INITIALIZER_RANGE,
    }
