"""Images as a data set holds them (paths, encoded bytes, `datasets` dicts, PIL), decoded when they are needed.

Whatever came in, RGB with 8 bits a channel comes out, upright and without transparency. Resizing belongs to the
model's image processor; keeping decoded images belongs to the prompt encoder.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 89_478_485
"""Larger images are refused: at 3 bytes a pixel this is a quarter of a gigabyte (Pillow warns from here on)."""

_ORIENTATION = 0x0112  # the EXIF tag; from 5 on it swaps width and height
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageError(ValueError):
    """An image that cannot be used; the message names it and says why."""


def load_image(source: Any) -> Image.Image:
    """Decode an image: RGB, upright, transparency laid on white.

    Args:
        source: a path, encoded bytes, a dict with "bytes" or "path" (how `datasets` keeps images), or a PIL image.

    Raises:
        ImageError: the source is missing, broken, too large or of a type that is no image; the message names it.

    Example:
        >>> load_image(Image.new("RGBA", (2, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    with _opened(source) as image:
        return _as_rgb(ImageOps.exif_transpose(image))


def check_image(source: Any) -> None:
    """Raise load_image's ImageError for what can be found without decoding (Pillow's `verify`)."""
    with _opened(source) as image:
        if not isinstance(source, Image.Image):
            image.verify()


def image_size(source: Any) -> tuple[int, int]:
    """Return (height, width) as load_image would give them, without decoding.

    Example:
        >>> image_size(Image.new("L", (40, 30)))
        (30, 40)
    """
    with _opened(source) as image:
        # The base class reads what stands before the pixels; PNG's own method would decode to look behind them.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
        return (image.width, image.height) if orientation >= 5 else (image.height, image.width)


def image_key(image: Image.Image) -> str:
    """Digest mode, size and pixels: equal keys mean equal pictures.

    Example:
        >>> red, blue = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
        >>> image_key(red) == image_key(red.copy()), image_key(red) == image_key(blue)
        (True, False)
    """
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def describe_image(source: Any) -> str:
    """Name an image for a message.

    Example:
        >>> describe_image(b"1234")
        'image of 4 encoded bytes'
    """
    if isinstance(source, Mapping):
        named = source.get("path") or source.get("bytes")
        return describe_image(named) if named else f"image dict with keys {sorted(source)}"
    if isinstance(source, bytes):
        return f"image of {len(source)} encoded bytes"
    if isinstance(source, str | os.PathLike):
        return f"image {os.fspath(source)}"
    return f"image of type {type(source).__name__}"


@contextmanager
def _opened(source: Any) -> Iterator[Image.Image]:
    """Read the header; what Pillow raises on the way, here or in the block, becomes an ImageError."""
    try:
        with _header(source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(source, f"{image.width} x {image.height} pixels, more than")
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(source, "more than twice the limit of") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{describe_image(source)} is in no image format that Pillow knows. "
            "Needed: PNG, JPEG, WebP or another common format. Convert or replace it."
        ) from error
    except FileNotFoundError as error:
        raise ImageError(
            f"{describe_image(source)} does not exist. "
            "Needed: an image file. Correct the path, or image_root if the path is relative."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # all that damaged files were seen to raise
        raise ImageError(
            f"{describe_image(source)} cannot be read ({error}). "
            "Needed: an image that Pillow can decode. Replace it or remove the row."
        ) from error


def _header(source: Any) -> AbstractContextManager[Image.Image]:
    """Open without decoding; a PIL image is its owner's to close."""
    if isinstance(source, Image.Image):
        return nullcontext(source)
    return Image.open(_readable(source))


def _readable(source: Any) -> Path | io.BytesIO:
    content = source
    if isinstance(source, Mapping):
        content = source.get("bytes") or source.get("path")
    if isinstance(content, bytes):
        return io.BytesIO(content)
    if isinstance(content, str | os.PathLike) and os.fspath(content):
        return Path(content)
    raise ImageError(
        f"{describe_image(source)} cannot be opened. "
        "Needed: a path, encoded bytes, a dict with one of them, or a PIL image. Convert it."
    )


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(image)
    if image.mode == "F":
        raise ValueError(
            "it holds 32-bit floats, whose range is unknown; save it with 8 bits a channel"
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; Pillow's own conversion would cut everything above 255 to white."""
    values = np.asarray(image).astype(np.int64)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 65535:
        raise ValueError("its 32-bit values leave 0..65535; save it with 8 or 16 bits a channel")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _too_large(source: Any, what: str) -> ImageError:
    return ImageError(
        f"{describe_image(source)} has {what} {MAX_PIXELS:,} pixels, the most an image may have here. "
        "Scale it down: the model's image processor would do so anyway."
    )
