"""Builds the page and the picture of one step's credit: heatmaps/step_00000010.html and .png.

The pages of a run find each other by steps.js, which is written anew with each of them: a browser that reads files
cannot list a folder. A page stays under MAX_BYTES whatever the step: problems are added, the most influential
first, while there is room, and the page says what was left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from rlsd_lightning.records import write_atomically
from rlsd_lightning.report.heatmap_png import draw_heatmap
from rlsd_lightning.report.images import Picture
from rlsd_lightning.report.samples import HEAD_TOKENS, TAIL_TOKENS, Card, prepare
from rlsd_lightning.report.template import render, render_macro
from rlsd_lightning.report.tokens import Row, Scales, measure

MAX_BYTES = 5_000_000
"""No page is larger."""
_FRAME_BYTES = 200_000
"""Room kept for everything but the problems: styles, scripts, legends."""
MAX_CHARACTERS = 4000
"""What is shown of a question, a reference or another text of a problem."""
MAX_PICTURES = 4
"""What is shown of a problem's images."""
_PAGE = re.compile(r"step_(\d{8,})\.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The completions of one problem."""

    rows: list[tuple[Row, int]]
    """Those that may be shown, the most influential first, with how often each was written."""
    verdicts: list[str]
    """"right", "wrong" or "unjudged", for every completion of the problem."""
    pictures: list[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCredit:
    """What may be shown of one optimizer step."""

    step: int
    """From 1."""
    groups: list[Group]
    """The most influential first."""
    num_problems: int
    """Of the whole step, as far as this process saw it."""
    num_completions: int
    """Likewise."""
    scope: str = ""
    """Whose completions these are, where it is not all of the step's; a sentence."""


def influence(credit: Sequence[float]) -> tuple[float, float]:
    """Rank a completion by how unevenly its credit is spread, then by how much there is.

    (sum_t |A_t - mean A|, sum_t |A_t|). The first is what a method adds to a plain verdict: 0 for GRPO, where the
    second decides; it needs neither an advantage nor a teacher, so methods of all kinds can be ranked by it.

    Args:
        credit: of the tokens that count. [T]

    Example:
        >>> influence([1.5, 0.5]), influence([-1.0, -1.0]), influence([])
        ((1.0, 2.0), (0.0, 2.0), (0.0, 0.0))
    """
    mean = sum(credit) / max(len(credit), 1)
    uneven = math.fsum(abs(value - mean) for value in credit)
    return round(uneven, 6), round(math.fsum(map(abs, credit)), 6)


def follows_verdict(rows: Iterable[Row]) -> bool:
    """Whether every token's credit has the sign of its completion's advantage, or is 0.

    Example:
        >>> follows_verdict([{"advantage": -1.0, "credit": [-0.5, 0.0, None]}])
        True
        >>> follows_verdict([{"advantage": 0.0, "credit": [0.3]}])
        False
    """
    return all(
        value is None or value == 0 or value * row["advantage"] > 0
        for row in rows
        for value in row["credit"]
    )


def write_heatmap(content: StepCredit, dirpath: Path) -> Path:
    """Write a step's page and picture, and let all pages of the folder know of it.

    Args:
        content: what may be shown; the rows have their tokens.
        dirpath: the run's folder of heatmaps.

    Returns:
        The page's path.
    """
    rows = [row for group in content.groups for row, _ in group.rows]
    follows, scales = follows_verdict(rows), measure(rows)
    if not follows:
        scales = replace(scales, weight=0.0)
    cards = _share_pictures([_card(group, scales, follows) for group in content.groups])
    drawn, shown = _fit(cards, MAX_BYTES - _FRAME_BYTES)
    path = dirpath / page_name(content.step)
    page = render(
        "heatmap.html.j2",
        styles=["style.css", "heatmap.css"],
        scripts=["tokens.js", "heatmap.js"],
        content=content,
        scales=scales,
        follows=follows,
        only_gain=bool(scales.gain and not scales.credit),
        lambda_=rows[0]["lambda"] if rows else None,
        picture=path.with_suffix(".png").name if shown else "",
        cards_drawn=drawn,
        left_out=_left_out(content, shown),
    )
    if shown:
        picture = draw_heatmap(shown[0], scales, f"Credit of step {content.step:,}")
        write_atomically(path.with_suffix(".png"), picture)
    write_atomically(path, page.encode())
    steps = heatmap_steps(dirpath)
    write_atomically(
        dirpath / "steps.js", f"window.HEATMAP_STEPS = {json.dumps(steps)};\n".encode()
    )
    return path


def page_name(step: int) -> str:
    """Name the file of a step's page.

    Example:
        >>> page_name(10)
        'step_00000010.html'
    """
    return f"step_{step:08d}.html"


def heatmap_steps(dirpath: Path) -> list[int]:
    """List the steps that have a page in a folder; none if there is no such folder."""
    found = (_PAGE.fullmatch(path.name) for path in dirpath.glob("step_*.html"))
    return sorted(int(match[1]) for match in found if match)


def _card(group: Group, scales: Scales, follows: bool) -> Card:
    """Prepare a problem: long texts cut, no weights where credit is no multiple of the advantage."""
    shown = []
    for row, times in group.rows:
        changes = {name: _cut(row[name]) for name in ("prompt", "answer", "reference", "reason")}
        if not follows:
            changes["weight"] = [None] * len(row["tokens"])
        note = f"influence {influence([x for x in row['credit'] if x is not None])[0]:.3g}"
        shown.append(prepare(row | changes, times, scales, note))
    return Card(
        row=shown[0].row,
        verdicts=sorted(group.verdicts, key=("right", "wrong", "unjudged").index),
        pictures=group.pictures[:MAX_PICTURES],
        shown=shown,
    )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} [{len(text) - MAX_CHARACTERS:,} more characters]"


def _share_pictures(cards: Sequence[Card]) -> list[Card]:
    """Let a picture that came before refer to its first place, so that the page holds it once."""
    marks: dict[str, str] = {}

    def shared(picture: Picture) -> Picture:
        if not picture.uri:
            return picture
        if picture.uri in marks:
            return replace(picture, uri="", same_as=marks[picture.uri])
        marks[picture.uri] = f"picture-{len(marks) + 1}"
        return replace(picture, mark=marks[picture.uri])

    return [replace(card, pictures=[shared(p) for p in card.pictures]) for card in cards]


def _fit(cards: Sequence[Card], room: int) -> tuple[list[Markup], list[Card]]:
    """Draw problems while there is room; the first that does not fit loses completions, then the rest is left out.

    A prefix, so that a picture's first place is always on the page.
    """
    drawn, shown = [], []
    for card in cards:
        markup = _drawn(card)
        while len(markup.encode()) > room and len(card.shown) > 1:
            card = replace(card, shown=card.shown[: len(card.shown) // 2])
            markup = _drawn(card)
        size = len(markup.encode())
        if size > room:
            break
        room -= size
        drawn.append(markup)
        shown.append(card)
    return drawn, shown


def _drawn(card: Card) -> Markup:
    return render_macro("cards.html.j2", "card", card)


def _left_out(content: StepCredit, shown: Sequence[Card]) -> list[str]:
    """Say what the page does not show."""
    sentences = [content.scope] if content.scope else []
    completions = sum(one.times for card in shown for one in card.shown)
    if len(shown) < content.num_problems or completions < content.num_completions:
        sentences.append(
            f"Shown are {completions:,} of {content.num_completions:,} completions and {len(shown):,} of "
            f"{content.num_problems:,} problems, the most influential ones."
        )
    if any(one.left_out for card in shown for one in card.shown):
        sentences.append(
            f"Of longer completions the first {HEAD_TOKENS} and the last {TAIL_TOKENS} tokens are shown."
        )
    if any(len(group.pictures) > MAX_PICTURES for group in content.groups[: len(shown)]):
        sentences.append(f"Of a problem's images the first {MAX_PICTURES} are shown.")
    return sentences
