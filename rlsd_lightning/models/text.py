"""Text models: any transformers causal language model with full attention and rotary positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlsd_lightning.models.family import ImageFeatures
from rlsd_lightning.types import ImageBatch


class TextFamily:
    """Positions count tokens; there are no images."""

    image_token_id = None
    placeholder_token_ids: tuple[int, ...] = ()

    def num_image_tokens(self, grid: tuple[int, int, int]) -> int:
        """Refuse: a text model has no image tokens."""
        raise ValueError(f"model: a text model cannot read an image (of {grid} patches).")

    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> Tensor:
        """Return 0, 1, 2, ... int64 [1, S]."""
        if grids:
            raise ValueError(f"model: a text model cannot read the prompt's {len(grids)} images.")
        return torch.arange(len(token_ids)).unsqueeze(0)

    def blank_image(self) -> None:
        """Return nothing: there is no vision tower to show it to."""

    def encode_images(self, model: PreTrainedModel, images: ImageBatch) -> ImageFeatures:
        """Refuse: a text model has no vision tower."""
        raise ValueError(
            f"model: {type(model).__name__} has no vision tower for {len(images.grids)} images."
        )

    def hidden_states(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        image_features: ImageFeatures,
        cache: Any | None,
    ) -> Tensor:
        """See Family.hidden_states."""
        output = model.model(
            input_ids=input_ids,
            position_ids=position_ids[0],
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state
