"""Attacks on grounding: regions so large, so many or so odd that they overlap with anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rlsd_lightning.attacks.attack import answered, attack, attacks_in
from rlsd_lightning.types import Problem

_MILLION = 1_000_000


def _asked(problem: Problem) -> Any:
    """Return the form of the region that is asked for; None where none is."""
    try:
        gold = json.loads(problem.answer)
    except (ValueError, RecursionError):
        return None
    is_box = isinstance(gold, list) and len(gold) == 4
    return gold if is_box or (isinstance(gold, dict) and gold.keys() & {"boxes", "time"}) else None


def _with(problem: Problem, box: Any, time: Any) -> str | None:
    """Return the region asked for with the same box everywhere."""
    asked = _asked(problem)
    if asked is None:
        return None
    if isinstance(asked, list):
        return answered(json.dumps(box))
    made = {"time": time} if "time" in asked else {}
    if "boxes" in asked:
        frames = asked["boxes"]
        made["boxes"] = dict.fromkeys(frames, box) if isinstance(frames, Mapping) else box
    return answered(json.dumps(made))


@attack("guess")
def whole_picture(problem: Problem) -> str | None:
    """A box round everything."""
    return _with(problem, [0, 0, 1000, 1000], [0, 100])


@attack("guess")
def unit_box(problem: Problem) -> str | None:
    """A box round everything, in shares of the picture."""
    return _with(problem, [0, 0, 1, 1], [0, 1])


@attack("nothing")
def endless_box(problem: Problem) -> str | None:
    """A box of a million pixels on each side."""
    return _with(problem, [-_MILLION, -_MILLION, _MILLION, _MILLION], [-_MILLION, _MILLION])


@attack("nothing")
def inverted_box(problem: Problem) -> str | None:
    """A box whose end comes before its beginning."""
    return _with(problem, [1000, 1000, 0, 0], [100, 0])


@attack("nothing")
def point(problem: Problem) -> str | None:
    """A box without size."""
    return _with(problem, [5, 5, 5, 5], [5, 5])


@attack("nothing")
def infinite_box(problem: Problem) -> str | None:
    """A box from minus infinity to infinity."""
    infinity = float("inf")
    return _with(problem, [-infinity, -infinity, infinity, infinity], [-infinity, infinity])


@attack("several")
def many_regions(problem: Problem) -> str | None:
    """A hundred boxes at once."""
    boxes = [[x, y, x + 100, y + 100] for x in range(0, 1000, 100) for y in range(0, 1000, 100)]
    return _with(problem, boxes, [[start, start + 5] for start in range(0, 100, 5)])


@attack("stuffed")
def one_easy_frame(problem: Problem) -> str | None:
    """The right box of one frame, no other frame."""
    asked = _asked(problem)
    frames = asked.get("boxes") if isinstance(asked, dict) else None
    if not isinstance(frames, Mapping) or len(frames) < 2:
        return None
    first = next(iter(frames))
    return answered(json.dumps({**asked, "boxes": {first: frames[first]}}))


ATTACKS = attacks_in(globals())
