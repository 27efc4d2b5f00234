"""Draws one problem's completions with their tokens coloured by credit, for places that show no HTML.

Pillow draws it with the one font that it brings, so a picture is the same on every machine; characters that this font
lacks (it knows Latin ones) come out as boxes, and the page beside it has them all.
"""

from __future__ import annotations

import base64
import io
import textwrap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from rlsd_lightning.report.samples import Card, Shown, verdict
from rlsd_lightning.report.tokens import LEVELS, Row, Scales, depth

MAX_COMPLETIONS, MAX_LINES = 4, 12
"""What is drawn: completions, and lines of each."""
_WIDTH, _MARGIN, _LEFT, _LINE = 1400, 36, 270, 34
"""In pixels: the picture, its border, the column of the problem, a line of tokens."""
_INK, _SOFT, _RULE = (28, 30, 33), (102, 107, 115), (228, 226, 221)
_PLUS, _MINUS, _DEEP = (31, 99, 181), (208, 48, 38), 0.62
"""As in style.css by day."""


def draw_heatmap(card: Card, scales: Scales, title: str) -> bytes:
    """Draw a problem: its image and question on the left, its first completions on the right, the legend above.

    Args:
        card: the problem, prepared for the page.
        scales: what the deepest colours stand for.
        title: the first line.

    Returns:
        A PNG.
    """
    left, right = _problem(card), _completions(card, scales)
    height = 2 * _MARGIN + 70 + max(left.height, right.height)
    picture = Image.new("RGB", (_WIDTH, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((_MARGIN, _MARGIN - 6), title, _INK, _font(30))
    _legend(pen, scales)
    pen.line((_MARGIN, _MARGIN + 46, _WIDTH - _MARGIN, _MARGIN + 46), _RULE)
    picture.paste(left, (_MARGIN, _MARGIN + 70))
    picture.paste(right, (_MARGIN + _LEFT + 30, _MARGIN + 70))
    png = io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    return png.getvalue()


def tint(level: int) -> tuple[int, int, int]:
    """Mix white with blue or red.

    Args:
        level: signed depth of colour, -LEVELS to LEVELS.

    Example:
        >>> tint(0), tint(12)
        ((255, 255, 255), (116, 158, 209))
    """
    share = _DEEP * abs(level) / LEVELS
    tone = _PLUS if level > 0 else _MINUS
    red, green, blue = (round(255 + (part - 255) * share) for part in tone)
    return red, green, blue


def place_tokens(
    pieces: Sequence[str], width: int, font: Any
) -> Iterator[tuple[int, float, float, str]]:
    """Set tokens into lines, the way a browser would with pre-wrapped text; a token longer than a line is broken.

    Args:
        pieces: the tokens' texts.
        width: of a line, in pixels.
        font: one of Pillow's.

    Yields:
        (token, left edge, line, text): one per token and line, in order.
    """
    x, line = 0.0, 0
    for index, piece in enumerate(pieces):
        for number, part in enumerate(piece.split("\n")):
            if number:
                x, line = 0.0, line + 1
            while part:
                fitting = _fitting(part, width - x, font, may_break=not x or len(part) > 24)
                if not fitting and x:
                    x, line = 0.0, line + 1
                    continue
                text = part[: max(fitting, 1)]
                yield index, x, line, text
                x, part = x + font.getlength(text), part[len(text) :]


def _fitting(text: str, room: float, font: Any, may_break: bool) -> int:
    """How many characters fit; all or none of a word that may not be broken."""
    if font.getlength(text) <= room:
        return len(text)
    if not may_break:
        return 0
    return bisect_right(range(len(text)), room, key=lambda n: font.getlength(text[:n])) - 1


def _problem(card: Card) -> Image.Image:
    picture = _decoded(card.pictures[0].uri) if card.pictures and card.pictures[0].uri else None
    lines = [
        *_wrapped(card.row["prompt"], 12),
        "",
        *_wrapped(f"answer: {card.row['answer']}", 3),
        f"{card.verdicts.count('right')} of {len(card.verdicts)} right",
    ]
    top = picture.height + 20 if picture else 0
    block = Image.new("RGB", (_LEFT, top + 26 * len(lines)), "white")
    if picture:
        block.paste(picture, (0, 0))
    pen = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        pen.text((0, top + 26 * number), line, _INK, _font(18))
    return block


def _decoded(uri: str) -> Image.Image:
    """Turn the page's picture back into one of the column's width; small ones keep their pixels sharp."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    scale = min(220 / image.width, 260 / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _wrapped(text: str, max_lines: int) -> list[str]:
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 29) or [""]]
    return lines if len(lines) <= max_lines else [*lines[: max_lines - 1], "..."]


def _completions(card: Card, scales: Scales) -> Image.Image:
    width = _WIDTH - 2 * _MARGIN - _LEFT - 30
    blocks = [_completion(shown, scales, width) for shown in _in_turn(card.shown)[:MAX_COMPLETIONS]]
    more = len(card.shown) - len(blocks)
    whole = Image.new("RGB", (width, sum(b.height for b in blocks) + (26 if more else 0)), "white")
    top = 0
    for block in blocks:
        whole.paste(block, (0, top))
        top += block.height
    if more:
        text = f"{more} more on the page"
        ImageDraw.Draw(whole).text((0, top), text, _SOFT, _font(17))
    return whole


def _in_turn(completions: Sequence[Shown]) -> list[Shown]:
    """Order completions so that right and wrong ones take turns, each kind in the order given."""
    kinds: list[str] = []
    places = []
    for shown in completions:
        kinds.append(verdict(shown.row))
        places.append(kinds.count(kinds[-1]))
    return [shown for _, shown in sorted(zip(places, completions, strict=True), key=lambda p: p[0])]


def _completion(shown: Shown, scales: Scales, width: int) -> Image.Image:
    row, font = shown.row, _font(21)
    placed = list(
        takewhile(lambda one: one[2] < MAX_LINES, place_tokens(row["tokens"], width, font))
    )
    shown_tokens, lines = (placed[-1][0] + 1, placed[-1][2] + 1) if placed else (0, 0)
    rest = sum(not piece.isspace() for piece in row["tokens"][shown_tokens:] if piece)
    block = Image.new("RGB", (width, int(30 + _LINE * lines + (26 if rest else 0) + 26)), "white")
    pen = ImageDraw.Draw(block)
    pen.text((0, 0), _head(row, shown), _SOFT, _font(17))
    for index, x, line, text in placed:
        top, end = 30 + _LINE * line, x + font.getlength(text)
        level = depth(row["credit"][index], scales.credit)
        pen.rectangle((x, top, end, top + _LINE - 5), tint(level))
        pen.text((x, top + 2), text, _INK, font)
        if bar := _bar(row, index, scales):
            pen.rectangle((x, top + _LINE - 4 - bar, end, top + _LINE - 5), _INK)
    if rest:
        pen.text((0, 30 + _LINE * lines), f"{rest:,} more tokens", _SOFT, _font(17))
    return block


def _bar(row: Row, index: int, scales: Scales) -> int:
    """How thick the bar under a token is, by how much more than an equal share of the credit it carries; 0: none."""
    weight = row["weight"][index]
    level = depth(None if weight is None else weight - 1, scales.weight)
    return round(4 * level / LEVELS) if level > LEVELS // 4 else 0


def _head(row: Row, shown: Shown) -> str:
    words = {"right": "right", "wrong": "wrong", "unjudged": "not judged"}
    parts = [words[verdict(row)], f"advantage {row['advantage']:+.2f}", shown.note]
    if shown.times > 1:
        parts.append(f"written {shown.times} times")
    return "    ".join(parts)


def _legend(pen: ImageDraw.ImageDraw, scales: Scales) -> None:
    font, cell = _font(17), 9
    high = f"+{scales.credit:.3g} made more likely"
    bar = "bar below a token: more than an equal share of the credit      " if scales.weight else ""
    low = f"{bar}made less likely -{scales.credit:.3g}"
    x = _WIDTH - _MARGIN - font.getlength(high) - cell * (2 * LEVELS + 1) - 12
    pen.text((x - 12 - font.getlength(low), _MARGIN + 4), low, _SOFT, font)
    for level in range(-LEVELS, LEVELS + 1):
        pen.rectangle((x, _MARGIN, x + cell, _MARGIN + 24), tint(level))
        x += cell
    pen.text((x + 12, _MARGIN + 4), high, _SOFT, font)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
