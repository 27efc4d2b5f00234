"""Where a question's images stand: published marks such as "<image 1>" become the project's "<image>"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rlsd_lightning.data.columns import IMAGE_PLACEHOLDER

_MARK = re.compile(r"<image ?(\d{1,2})>")


def place_images(
    question: str, images: Mapping[int, Any], options: Iterable[str] = ()
) -> tuple[str, list[Any]]:
    """Return the question with its images in place, and the images in the order in which they stand there.

    Only if every image is marked exactly once, and in the question. Otherwise (an option shows an image, an image is
    marked twice or nowhere) the images stand first, in the order of their numbers, and the marks stay text that names them.

    Args:
        question: with marks, "<image 1>" or "<image1>".
        images: by the number of their mark.
        options: texts in which a mark keeps images from being placed.

    Example:
        >>> place_images("Is <image 2> or <image 1> red?", {1: "a.png", 2: "b.png"})
        ('Is <image> or <image> red?', ['b.png', 'a.png'])
        >>> place_images("Which is red, as in <image 1>?", {1: "a.png", 2: "b.png"}, ["<image 2>", "none"])
        ('Which is red, as in <image 1>?', ['a.png', 'b.png'])
    """
    marked = [int(number) for number in _MARK.findall(question)]
    elsewhere = any(_MARK.search(option) for option in options)
    if elsewhere or sorted(marked) != sorted(images):
        return question, [images[number] for number in sorted(images)]
    return _MARK.sub(IMAGE_PLACEHOLDER, question), [images[number] for number in marked]
