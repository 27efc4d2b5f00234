"""Frozen weights in 4 bits beside LoRA's adapters, with bitsandbytes (QLoRA, arXiv:2305.14314).

Linear layers are kept as 4-bit NormalFloat values with scales per block, which are quantised in turn, and computed in the
model's dtype. Embeddings, norms and the vision tower stay as they are.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

KEPT = ("lm_head", "model.visual")
"""Parts of a model that are not quantised: log-probs are taken from the first, and images are read by the second."""


def settings(dtype: str, lora: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what from_pretrained needs to load a model in 4 bits.

    Args:
        dtype: what layers compute in.
        lora: the adapters that are trained.

    Raises:
        ValueError: nothing could be trained, or bitsandbytes is not installed.
    """
    if lora is None:
        raise ValueError(
            "model.load_in_4bit is true, and weights of 4 bits cannot be trained. Set model.lora as well, such as "
            "model.lora={rank: 32, alpha: 64}, or load_in_4bit to false."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "model.load_in_4bit is true, but the package bitsandbytes is not installed. Install it "
            "(pip install 'rlsd-lightning[qlora]'), or set load_in_4bit to false."
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=list(KEPT),
    )
    return {"quantization_config": config}


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether a model was loaded in 4 bits."""
    return getattr(model.config, "quantization_config", None) is not None


def dequantised(values: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return a quantised weight as its layer computes with it: the values that 4 bits stand for.

    Args:
        values: the parameter's, gathered: uint8.
        parameter: bitsandbytes' Params4bit, which knows the scales.
    """
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(values, parameter.quant_state)


def unquantised(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same architecture with whole weights, which are still to be filled."""
    config = copy.deepcopy(model.config)
    del config.quantization_config
    kind = type(model)
    with torch.random.fork_rng(devices=[]):
        made = kind._from_config(config, dtype=model.dtype)
    made.generation_config = model.generation_config
    return made
