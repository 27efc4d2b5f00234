"""The sizes of a model from its config.json alone: it is built on the meta device, where weights take no memory.

The presets' published config values lie in architectures/, so that planning with conf/model/qwen3*.yaml needs no
network. The numbers of their weights are those that the hub shows (tests/planning/test_architecture.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
)

from rlsd_lightning.models import family_of

_SHIPPED = Path(__file__).parent / "architectures"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """The language model: layers of grouped attention and a gated MLP, or experts of such."""

    num_layers: int
    hidden_size: int
    """H"""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    """I, of one expert where there are experts."""
    vocab_size: int
    """V"""
    has_qk_norms: bool = True
    """Queries and keys go through norms of their own, as in Qwen3."""
    num_experts: int = 0
    """0 = one MLP that every token goes through."""
    num_experts_per_token: int = 1

    @property
    def query_size(self) -> int:
        """Width of all queries of a token, and of what attention returns."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all keys of a token, and of all values."""
        return self.num_kv_heads * self.head_dim

    def adapter_weights(self, rank: int, target_modules: Sequence[str]) -> int:
        """Count LoRA's weights in all layers: rank x (inputs + outputs) of each linear layer named; experts are none.

        Args:
            rank: of the adapters.
            target_modules: as in models.adapters.Lora.

        Raises:
            ValueError: plan does not know the size of a layer of that name.
        """
        hidden, query, kv = self.hidden_size, self.query_size, self.kv_size
        sizes = {
            "q_proj": hidden + query,
            "k_proj": hidden + kv,
            "v_proj": hidden + kv,
            "o_proj": hidden + query,
        }
        mlp = 0 if self.num_experts else hidden + self.intermediate_size
        sizes |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), mlp)
        unknown = [name for name in target_modules if name not in sizes]
        if unknown:
            raise ValueError(
                f"model.lora.target_modules names {', '.join(unknown)}, whose size plan does not know. Needed: some of "
                f"{', '.join(sizes)}. Leave the others out to plan."
            )
        return self.num_layers * rank * sum(sizes[name] for name in target_modules)

    @property
    def layer_matmul_weights(self) -> int:
        """Weights that one token is multiplied with in one layer."""
        attention = 2 * self.hidden_size * (self.query_size + self.kv_size)
        mlp = 3 * self.hidden_size * self.intermediate_size * self.num_experts_per_token
        return attention + mlp + self.hidden_size * self.num_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The vision tower: blocks over patches, then mergers that turn several patches into one token."""

    num_blocks: int
    hidden_size: int
    """D"""
    intermediate_size: int
    patch_size: int
    """Pixels along a side."""
    patch_values: int
    """Numbers in a patch: channels, frames and pixels."""
    merge_size: int
    """Patches along a side of one token."""
    num_mergers: int
    """One for the embeddings, one for each layer that gets features of its own (deepstack)."""
    out_size: int

    @property
    def block_matmul_weights(self) -> int:
        """Weights that one patch is multiplied with in one block."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size

    @property
    def patches_per_token(self) -> int:
        """Patches that become one image token."""
        return self.merge_size**2

    @property
    def merger_matmul_weights(self) -> int:
        """Weights that one image token is multiplied with in one merger."""
        merged = self.hidden_size * self.patches_per_token
        return merged * merged + merged * self.out_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's sizes."""

    text: TextShape
    vision: VisionShape | None
    num_params: int
    """Every weight once, tied ones too."""
    num_vision_params: int
    num_linear_weights: int
    """In linear layers, the output embedding left out: what autocast casts."""
    num_vision_linear_weights: int
    """The vision tower's share of these."""

    @property
    def head_weights(self) -> int:
        """In the output embedding: [V, H]."""
        return self.text.vocab_size * self.text.hidden_size

    @property
    def num_active_params(self) -> int:
        """Weights of the language model that one completion token is multiplied with, output embedding included."""
        return self.text.num_layers * self.text.layer_matmul_weights + self.head_weights


def read_config(path: str, revision: str | None = None) -> PretrainedConfig:
    """Return the config of a folder, of one of the presets' models, or of the hub, in this order.

    Raises:
        ValueError: there is none.
    """
    shipped = _SHIPPED / f"{path.replace('/', '--')}.json"
    source = str(shipped) if shipped.is_file() and not Path(path).is_dir() else path
    try:
        return AutoConfig.from_pretrained(source, revision=None if source != path else revision)
    except OSError as error:
        raise ValueError(
            f"model.path is {path!r}, of which plan finds no config.json: neither in a folder of that name, nor among the "
            f"presets (model=qwen3_vl_8b and others), nor on the hub ({str(error).splitlines()[0]}). Give a folder "
            "with a config.json, or choose a preset."
        ) from error


def read_architecture(path: str, revision: str | None = None) -> Architecture:
    """Return the sizes of a model.

    Args:
        path: folder or hub name.
        revision: branch, tag or commit on the hub.

    Example:
        >>> read_architecture("Qwen/Qwen3-VL-8B-Instruct").num_params
        8767123696
    """
    return architecture_of(read_config(path, revision))


def architecture_of(config: PretrainedConfig) -> Architecture:
    """Return the sizes of the model that a config describes."""
    reads_images = family_of(config).image_token_id is not None
    auto = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    tower = model.model.visual if reads_images else None
    return Architecture(
        text=_text_shape(config.get_text_config(), _has_qk_norms(model)),
        vision=_vision_shape(config.vision_config) if reads_images else None,
        num_params=sum(weight.numel() for weight in model.parameters()),
        num_vision_params=sum(weight.numel() for weight in tower.parameters()) if tower else 0,
        num_linear_weights=_linear_weights(model) - _linear_weights(model.get_output_embeddings()),
        num_vision_linear_weights=_linear_weights(tower) if tower else 0,
    )


def _linear_weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def _has_qk_norms(model: nn.Module) -> bool:
    return any(name.endswith("q_norm.weight") for name, _ in model.named_parameters())


def _text_shape(config: PretrainedConfig, has_qk_norms: bool) -> TextShape:
    experts = getattr(config, "num_experts", None) or 0
    head_dim = getattr(config, "head_dim", None)
    return TextShape(
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=head_dim or config.hidden_size // config.num_attention_heads,
        intermediate_size=config.moe_intermediate_size if experts else config.intermediate_size,
        vocab_size=config.vocab_size,
        has_qk_norms=has_qk_norms,
        num_experts=experts,
        num_experts_per_token=config.num_experts_per_tok if experts else 1,
    )


def _vision_shape(config: PretrainedConfig) -> VisionShape:
    values = config.in_channels * config.temporal_patch_size * config.patch_size**2
    return VisionShape(
        num_blocks=config.depth,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        patch_size=config.patch_size,
        patch_values=values,
        merge_size=config.spatial_merge_size,
        num_mergers=1 + len(config.deepstack_visual_indexes),
        out_size=config.out_hidden_size,
    )
