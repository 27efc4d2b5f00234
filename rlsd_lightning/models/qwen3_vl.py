"""Qwen3-VL: interleaved multimodal rotary positions, and visual features that enter several layers (deepstack).

The vision tower and the language model are called apart, so that an image goes through the tower once however
many rows show it. Videos are not read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from rlsd_lightning.types import ImageBatch


class Qwen3VLFeatures(NamedTuple):
    """Visual features of one image."""

    tokens: Tensor
    """What replaces the embeddings of its image tokens. [num_image_tokens, H]"""
    deepstack: tuple[Tensor, ...]
    """What the first layers add at its image tokens, one per layer. [num_image_tokens, H] each"""


class Qwen3VLFamily:
    """Positions, image tokens and forward pass of Qwen3VLForConditionalGeneration, and of its mixture of experts.

    The two differ inside a layer only. A mixture is trained without a loss that balances its router's load.
    """

    MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")

    def __init__(self, config: PretrainedConfig) -> None:
        self.image_token_id: int = config.image_token_id
        self.placeholder_token_ids = (
            config.image_token_id,
            config.video_token_id,
            config.vision_start_token_id,
            config.vision_end_token_id,
        )
        vision = config.vision_config
        self._merge_size: int = vision.spatial_merge_size
        self._patch_dim: int = (
            vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        )

    def num_image_tokens(self, grid: tuple[int, int, int]) -> int:
        """Count merged patches: time x height x width / merge_size^2."""
        return grid[0] * grid[1] * grid[2] // self._merge_size**2

    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> Tensor:
        """Return (time, height, width) positions. int64 [3, S].

        A text token takes the next position on all three axes. An image's tokens share the time position and
        count rows and columns from it; the text after it goes on at the larger of its height and width.
        Equal to transformers' `Qwen3VLModel.get_rope_index` for one prompt with images.
        """
        positions = torch.empty(3, len(token_ids), dtype=torch.int64)
        place, next_position, remaining = 0, 0, iter(grids)
        while place < len(token_ids):
            if token_ids[place] != self.image_token_id:
                positions[:, place] = next_position
                place, next_position = place + 1, next_position + 1
                continue
            time, height, width = next(remaining)
            height, width = height // self._merge_size, width // self._merge_size
            axes = torch.meshgrid(
                torch.arange(time), torch.arange(height), torch.arange(width), indexing="ij"
            )
            end = place + time * height * width
            positions[:, place:end] = torch.stack(axes).flatten(1) + next_position
            place, next_position = end, next_position + max(height, width)
        return positions

    def blank_image(self) -> ImageBatch:
        """Return an image of one image token, all zeros."""
        side = self._merge_size
        return ImageBatch(
            pixel_values=torch.zeros(side * side, self._patch_dim),
            grids=torch.tensor([[1, side, side]]),
        )

    def encode_images(self, model: PreTrainedModel, images: ImageBatch) -> list[Qwen3VLFeatures]:
        """Run the vision tower once over all images of the batch."""
        output = model.model.get_image_features(images.pixel_values, images.grids, return_dict=True)
        sizes = [len(tokens) for tokens in output.pooler_output]
        levels = [
            # transformers 5.17 hands a layer's features over whole, 5.19 by image.
            level.split(sizes) if isinstance(level, Tensor) else level
            for level in output.deepstack_features
        ]
        return [
            Qwen3VLFeatures(tokens, deepstack)
            for tokens, *deepstack in zip(output.pooler_output, *levels, strict=True)
        ]

    def hidden_states(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        image_features: list[Qwen3VLFeatures],
        cache: Any | None,
    ) -> Tensor:
        """See Family.hidden_states."""
        embeddings = model.get_input_embeddings()(input_ids)
        visual: dict[str, Any] = {}
        if image_features:
            is_image = input_ids == self.image_token_id
            tokens = torch.cat([features.tokens for features in image_features]).to(
                embeddings.dtype
            )
            assert tokens.shape[0] == int(is_image.sum()), (
                f"{tokens.shape[0]} visual features for {int(is_image.sum())} image tokens"
            )
            embeddings = embeddings.masked_scatter(is_image.unsqueeze(-1), tokens)
            levels = zip(*(features.deepstack for features in image_features), strict=True)
            visual = {
                "visual_pos_masks": is_image,
                "deepstack_visual_embeds": [torch.cat(level) for level in levels],
            }
        output = model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=position_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **visual,
        )
        return output.last_hidden_state
