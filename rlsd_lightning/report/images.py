"""Pictures as data URIs, small enough for a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rlsd_lightning.data.images import load_image

MAX_SIDE = 512
"""Longer sides are scaled down to this many pixels."""
MAX_PNG_BYTES = 60_000
"""A PNG larger than this is a photograph, which JPEG holds in a tenth."""
TINY_SIDE = 128
"""Below this, pixels are shown as pixels instead of being blurred by the browser."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a problem, ready for an <img>."""

    name: str
    """Where it came from."""
    uri: str
    """A data URI; empty if the file is gone or broken, which the page then says."""
    tiny: bool = False
    """Smaller than TINY_SIDE on both sides."""
    mark: str = ""
    """The name by which later pictures of the page refer to this one."""
    same_as: str = ""
    """The mark of the picture that this one repeats; then its own `uri` is empty."""


def load_picture(folder: Path, name: str) -> Picture:
    """Read an image file, given by an absolute path or by one that starts at `folder`."""
    return as_picture(name, folder / name)


def as_picture(name: str, source: Any) -> Picture:
    """Scale an image down and encode it.

    Args:
        name: what the page calls it if it cannot be shown.
        source: anything that `load_image` reads.
    """
    try:
        image = load_image(source)
    except ValueError:
        return Picture(name, "")
    tiny = max(image.size) < TINY_SIDE
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return Picture(name, data_uri(*_encode(image)), tiny)


def data_uri(kind: str, content: bytes) -> str:
    """Write an encoded image as the source of an <img>.

    Example:
        >>> data_uri("png", b"123")
        'data:image/png;base64,MTIz'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(image: Image.Image) -> tuple[str, bytes]:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    if png.tell() <= MAX_PNG_BYTES:
        return "png", png.getvalue()
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=82)
    return "jpeg", jpeg.getvalue()
