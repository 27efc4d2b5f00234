"""Each image goes through the image processor once, while it is among the last few that were used."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from rlsd_lightning.data.images import image_key, load_image
from rlsd_lightning.types import ProcessedImage


class ImageCache:
    """Processed images by source: path with time and size of the file, or digest of bytes or pixels.

    Bounded, because patches are large: Qwen3-VL keeps 24 bytes a pixel, 24 MB for one megapixel.

    Args:
        image_processor: of transformers, returning pixel_values [num_patches, patch_dim] and image_grid_thw [1, 3].
        max_images: the least recently used one beyond this many is dropped.
    """

    def __init__(self, image_processor: Any, max_images: int) -> None:
        if max_images < 1:
            raise ValueError(
                f"max_cached_images is {max_images}. Needed: 1 or more, as student and teacher share images. "
                "Set it to the images of one step."
            )
        self.max_images = max_images
        self._image_processor = image_processor
        self._images: OrderedDict[Hashable, ProcessedImage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._images)

    def get(self, source: Any) -> ProcessedImage:
        """Return the processed image, from the cache if its source has not changed."""
        key = source_key(source)
        if key not in self._images:
            self._images[key] = self._process(source)
            if len(self._images) > self.max_images:
                self._images.popitem(last=False)
        self._images.move_to_end(key)
        return self._images[key]

    def _process(self, source: Any) -> ProcessedImage:
        image = load_image(source)
        features = self._image_processor(images=[image], return_tensors="pt")
        time, height, width = features["image_grid_thw"][0].tolist()
        return ProcessedImage(
            key=image_key(image),
            pixel_values=features["pixel_values"],
            grid=(time, height, width),
            source=source,
        )


def source_key(source: Any) -> Hashable:
    """Tell sources apart without decoding, where that is possible.

    Example:
        >>> source_key(b"abc") == source_key({"bytes": b"abc", "path": "a.png"})
        True
    """
    if isinstance(source, Mapping):
        return source_key(source.get("bytes") or source.get("path"))
    if isinstance(source, bytes):
        return hashlib.blake2b(source, digest_size=16).hexdigest()
    if isinstance(source, str | os.PathLike) and Path(source).is_file():
        state = Path(source).stat()
        return os.fspath(source), state.st_mtime_ns, state.st_size
    return image_key(
        load_image(source)
    )  # a PIL image; what is no image at all is named by load_image's error
