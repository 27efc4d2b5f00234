"""What the project needs to know of a model family beyond transformers' common interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rlsd_lightning.types import ImageBatch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

ImageFeatures = list[Any]
"""Per image, whatever the family's `hidden_states` places at its tokens; opaque to everyone else."""


class Family(Protocol):
    """Rotary positions, image tokens and the backbone's forward pass of one family of models."""

    image_token_id: int | None
    """The token that stands for one visual feature; None for text models."""
    placeholder_token_ids: tuple[int, ...]
    """Tokens that only images and videos may put into a sequence: never sampled."""

    def num_image_tokens(self, grid: tuple[int, int, int]) -> int:
        """Count the visual features of an image of `grid` patches (time, height, width)."""
        ...

    def positions(self, token_ids: Sequence[int], grids: Sequence[tuple[int, int, int]]) -> Tensor:
        """Return the rotary positions of a prompt. int64 [A, S]."""
        ...

    def blank_image(self) -> ImageBatch | None:
        """Return the smallest image there is, without content; None for text models."""
        ...

    def encode_images(self, model: PreTrainedModel, images: ImageBatch) -> ImageFeatures:
        """Run the vision tower once over each image; one entry per image."""
        ...

    def hidden_states(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        image_features: ImageFeatures,
        cache: Any | None,
    ) -> Tensor:
        """Return the last hidden states, the final norm applied.

        Args:
            model: the transformers model.
            input_ids: int64 [R, S]
            position_ids: int64 [A, R, S]
            attention_mask: [R, S] or [R, 1, S, keys].
            image_features: those of the images in `input_ids`, in order of their tokens, row by row.
            cache: keys and values of earlier tokens; takes this call's.

        Returns:
            [R, S, H]
        """
        ...
