"""LoRA through PEFT: small matrices beside frozen weights, of which one model can hold several sets.

    y = x W^T + (alpha / rank) x A^T B^T        -- LoRA, arXiv:2106.09685; B starts at 0

The policy is the base with one set; a frozen teacher is the base without any, a teacher that follows is the base with a
second set. So no teacher is a second copy of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

POLICY, TEACHER = "policy", "teacher"
"""The names of the two sets."""

LANGUAGE_LAYERS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
"""The linear layers of a decoder, as Llama, Qwen and their kin name them; Qwen3-VL's vision tower has other names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Which layers get adapters, and how large they are.

    Raises:
        ValueError: a rank below 1, or a layer that cannot have one.
    """

    rank: int
    """Columns of B and rows of A."""
    alpha: float
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs that training sets to 0."""
    target_modules: Sequence[str] = LANGUAGE_LAYERS
    """Names of linear layers; every layer with such a name gets an adapter."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"model.lora.rank is {self.rank}. Set it to 1 or more, such as 32.")
        if {"lm_head", "embed_tokens"} & set(self.target_modules):
            raise ValueError(
                "model.lora.target_modules names the input or output embedding, from which log-probs are taken directly. "
                "Leave it out; the linear layers of the decoder are the default."
            )


def add_adapters(model: nn.Module, lora: Lora) -> None:
    """Freeze a model and give it the policy's adapters, in float32.

    Raises:
        ValueError: no layer has one of the names.
    """
    model.requires_grad_(False)
    _inject(model, lora, POLICY)


def add_teacher(model: nn.Module) -> None:
    """Give a model a second set of adapters, equal to the policy's, that is not trained."""
    config = adapter_layers(model)[0]
    rank, scaling = config.r[POLICY], config.scaling[POLICY]
    names = sorted({name.rsplit(".", 1)[-1] for name, _ in _named_layers(model)})
    lora = Lora(rank=rank, alpha=scaling * rank, target_modules=names)
    with torch.random.fork_rng(devices=[]):  # its random start is overwritten
        _inject(model, lora, TEACHER)
    for mine, theirs in zip(weights_of(model, TEACHER), weights_of(model, POLICY), strict=True):
        mine.requires_grad_(False).data.copy_(theirs.data)
    for layer in adapter_layers(model):
        layer.requires_grad_(False)
    for weight in weights_of(model, POLICY):
        weight.requires_grad_(True)


def adapter_layers(model: nn.Module) -> list[Any]:
    """Return PEFT's layers, each around a linear layer of the model; none without LoRA."""
    return [layer for _, layer in _named_layers(model)]


def weights_of(model: nn.Module, adapter: str) -> list[nn.Parameter]:
    """Return A and B of every layer, in a fixed order."""
    return [
        matrix[adapter].weight
        for layer in adapter_layers(model)
        for matrix in (layer.lora_A, layer.lora_B)
    ]


@contextmanager
def using(model: nn.Module, adapter: str | None) -> Iterator[None]:
    """Compute with another set of adapters, or with none, for a while.

    PEFT's own switches also change which weights require gradients, which optimizers and strategies that are set up
    already do not expect; so its two flags are set directly.
    """
    layers = adapter_layers(model)
    _switch(layers, adapter)
    try:
        yield
    finally:
        _switch(layers, POLICY)


def merged_names(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Any | None]]:
    """Yield (name, weight, layer) of every weight of the model as it is without PEFT's layers.

    The layer, where there is one, holds the adapter that belongs to the weight.
    """
    layers = dict(_named_layers(model))
    adapters = {id(w) for layer in layers.values() for w in _matrices(layer)}
    for name, weight in model.named_parameters():
        if id(weight) in adapters:
            continue
        place, _, leaf = name.rpartition(".")
        owner = place.removesuffix(".base_layer")
        layer = layers.get(owner) if leaf == "weight" else None
        yield f"{owner}.{leaf}" if owner else leaf, weight, layer


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers of the model's state that belong to no adapter."""
    own = {id(weight) for layer in adapter_layers(model) for weight in _matrices(layer)}
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if id(value) not in own}


def remove_adapters(model: nn.Module) -> None:
    """Put the linear layers back in the place of PEFT's; what the adapters had learnt is gone."""
    for name, layer in list(_named_layers(model)):
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base_layer)


def _inject(model: nn.Module, lora: Lora, adapter: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )
    try:
        inject_adapter_in_model(config, model, adapter_name=adapter)
    except ValueError as error:
        raise ValueError(
            f"model.lora.target_modules is {list(lora.target_modules)}: {error} "
            "Name linear layers of the model."
        ) from error
    for weight in weights_of(model, adapter):
        weight.data = weight.data.float()
    _switch(adapter_layers(model), POLICY)


def _switch(layers: Sequence[Any], adapter: str | None) -> None:
    for layer in layers:
        layer._disable_adapters = adapter is None
        layer._active_adapter = [adapter or POLICY]


def _named_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _matrices(layer: Any) -> list[Tensor]:
    return [matrix.weight for pair in (layer.lora_A, layer.lora_B) for matrix in pair.values()]
