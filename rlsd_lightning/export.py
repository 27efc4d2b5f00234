"""Writes a policy as a Hugging Face folder, and loads it again to prove that it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from rlsd_lightning.models import Policy
from rlsd_lightning.weights import load_named_weights, named_weights


def export_policy(policy: Policy, processor: Any, folder: Path) -> None:
    """Save weights (LoRA's merged), configuration and processor; then load all of it with transformers' Auto classes and compare.

    Args:
        policy: what to export.
        processor: the processor (of a text model: the tokenizer) that the policy was trained with.
        folder: written anew; must not exist or be empty.

    Raises:
        FileExistsError: the folder holds something.
        RuntimeError: what was loaded differs from what was saved.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"export: {folder} is not empty. Choose another folder with paths.output=..., or remove this one."
        )
    if policy.has_adapters:
        merged = policy.plain_copy()
        load_named_weights(merged, named_weights(policy))
        policy = merged
    policy.model.save_pretrained(folder)
    processor.save_pretrained(folder)
    prove(policy, processor, folder)


def prove(policy: Policy, processor: Any, folder: Path) -> None:
    """Raise RuntimeError unless `folder` loads as the same weights and a processor of the same vocabulary."""
    is_text = policy.family.image_token_id is None
    auto_model = AutoModelForCausalLM if is_text else AutoModelForImageTextToText
    loaded = dict(auto_model.from_pretrained(folder, dtype=policy.dtype).named_parameters())
    for name, weight in named_weights(policy):
        if name not in loaded or not torch.equal(loaded[name], weight.cpu()):
            raise RuntimeError(
                f"export: {folder} was written, but {name!r} differs after loading it again."
            )
    reader = (AutoTokenizer if is_text else AutoProcessor).from_pretrained(folder)
    before, after = (getattr(r, "tokenizer", r).get_vocab() for r in (processor, reader))
    if before != after:
        raise RuntimeError(
            f"export: {folder} was written, but its tokenizer differs after loading it again."
        )
