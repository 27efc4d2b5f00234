"""Where something is in a picture, when it is in a video, or both, paid by the overlap with the gold answer.

The gold answer says by its form what is asked for, and an answer has the same form, as JSON:

    {"boxes": [x1, y1, x2, y2]}                             one box; or the bare list
    {"time": [start, end]}                                  one stretch of time
    {"time": [start, end], "boxes": {"7": [...], ...}}      both, one box per frame

Overlap is IoU (intersection over union) or GIoU (arXiv:1902.09630), which falls below 0 for boxes apart. Of time and boxes
each counts half; the boxes' half is the mean over the frames. RLSD's code takes only frames that both sides name, which
pays in full for the one easiest frame; here every frame of either side counts unless `frames` says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.strict_json import json_answer
from rlsd_lightning.verifiers.verdicts import not_judged, quoted

Region = tuple[tuple[float, float], ...]
"""From where to where along each axis: two axes for a box, one for a stretch of time."""
_METRICS = ("iou", "giou", "giou_scaled")
_MAX_COORDINATE = 1e9
"""Larger ones are no place in a picture, and their products might be no numbers."""


def overlap(got: Region, wanted: Region, metric: str = "iou") -> float:
    """Return how much two regions overlap.

    IoU = |A and B| / |A or B|;  GIoU = IoU - (|hull| - |A or B|) / |hull|, the hull being the smallest region that
    holds both;  giou_scaled = (1 + GIoU) / 2.

    Args:
        got: a region of more than no size.
        wanted: another, with as many axes.
        metric: iou (from 0 to 1), giou (from -1 to 1) or giou_scaled (from 0 to 1).

    Example:
        >>> overlap(((0, 2), (0, 2)), ((1, 3), (0, 2)))
        0.3333333333333333
        >>> overlap(((0, 1),), ((3, 4),), "giou")
        -0.5
    """
    pairs = list(zip(got, wanted, strict=True))
    shared = math.prod(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in pairs)
    union = _size(got) + _size(wanted) - shared
    iou = shared / union
    if metric == "iou":
        return iou
    hull = math.prod(max(a[1], b[1]) - min(a[0], b[0]) for a, b in pairs)
    giou = max(-1.0, min(1.0, iou - (hull - union) / hull))
    return giou if metric == "giou" else (1 + giou) / 2


class Grounding:
    """Pays an answer by its overlap with the gold answer; what is no region overlaps with nothing.

    A problem's own `extra["metric"]` comes before the argument. Under giou a region far off earns less than no region
    at all, which earns 0: prefer giou_scaled for training.

    Args:
        metric: iou, giou or giou_scaled.
        frames: of time and boxes, the frames that count: those that either side names ("union"), or those that both
            name ("common", as RLSD's code).
        correct_from: an answer with this much reward is correct.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", answer='{"time": [5, 15]}')
        >>> Grounding().verify(problem, '<answer>{"time": [10, 15]}</answer>').reward
        0.5
    """

    def __init__(
        self,
        *,
        metric: str = "iou",
        frames: str = "union",
        correct_from: float = 0.5,
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        if metric not in _METRICS or frames not in ("union", "common"):
            raise ValueError(
                f"Grounding: metric is {metric!r} and frames is {frames!r}, but metric must be one of "
                f"{', '.join(_METRICS)}, and frames union or common. Mend them."
            )
        if not 0 < correct_from <= 1:
            raise ValueError(
                f"Grounding: correct_from is {correct_from}, but it must be above 0 and at most 1. Set 0.5 if in doubt."
            )
        self.metric = metric
        self.frames = frames
        self.correct_from = correct_from
        self.sources = check_extraction("Grounding", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the region in `problem.answer`."""
        metric = problem.extra.get("metric", self.metric)
        if metric not in _METRICS:
            raise ValueError(
                f"{problem.place}: extra.metric is {metric!r}, but Grounding knows {', '.join(_METRICS)}. Mend it there."
            )
        wanted = _read(problem.answer.strip(), self.which, is_bare=True)
        is_bare = isinstance(wanted, list)
        if not _is_gold(wanted):
            return not_judged(f"the gold answer {quoted(problem.answer)} is no region")
        answer = extract_answer(response, self.which, self.sources)
        got = None if answer is None else _read(answer, self.which, is_bare=is_bare)
        reward = self._overlap(got, wanted, metric) if isinstance(got, type(wanted)) else 0.0
        seen = "no answer found" if answer is None else f"got {quoted(answer)}"
        return Verdict(
            reward=reward,
            correct=reward >= self.correct_from,
            reason=f"{metric} {reward:.3f}: {seen}, wanted {quoted(problem.answer)}",
        )

    verify_quickly = verify

    def _overlap(self, got: Any, wanted: Any, metric: str) -> float:
        if isinstance(wanted, list):
            return _overlap(got, wanted, metric, axes=2)
        parts = []
        if "time" in wanted:
            parts.append(_overlap(got.get("time"), wanted["time"], metric, axes=1))
        if isinstance(wanted.get("boxes"), dict):
            parts.append(self._over_frames(got.get("boxes"), wanted["boxes"], metric))
        elif "boxes" in wanted:
            parts.append(_overlap(got.get("boxes"), wanted["boxes"], metric, axes=2))
        return sum(parts) / len(parts)

    def _over_frames(self, got: Any, wanted: dict[str, Any], metric: str) -> float:
        """Return the mean overlap over the frames; a frame that one side lacks has none."""
        if not isinstance(got, dict):
            return 0.0
        common = [frame for frame in wanted if frame in got]
        total = sum(_overlap(got[frame], wanted[frame], metric, axes=2) for frame in common)
        count = len(common) if self.frames == "common" else len(got.keys() | wanted.keys())
        return total / count if count else 0.0


def _overlap(got: Any, wanted: Any, metric: str, axes: int) -> float:
    """Return the overlap of two regions as JSON has them; 0 if the answer is none."""
    region = read_region(got, axes)
    return 0.0 if region is None else overlap(region, read_region(wanted, axes), metric)


def read_region(value: Any, axes: int) -> Region | None:
    """Return a region from a list of its beginnings and then its ends along the axes; None if it is none.

    Args:
        value: anything JSON can hold.
        axes: 1 for [start, end], 2 for [x1, y1, x2, y2].

    Example:
        >>> read_region([1, 2, 3, 4], axes=2)
        ((1, 3), (2, 4))
        >>> read_region([3, 2, 1, 4], axes=2) is None, read_region([1, 2, 3], axes=2) is None
        (True, True)
    """
    if not isinstance(value, list) or len(value) != 2 * axes or not all(map(_is_place, value)):
        return None
    region = tuple(zip(value[:axes], value[axes:], strict=True))
    has_size = all(start < end for start, end in region) and _size(region) > 0
    return region if has_size else None


def _size(region: Region) -> float:
    return math.prod(end - start for start, end in region)


def _is_place(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= _MAX_COORDINATE


def _is_gold(wanted: Any) -> bool:
    """Whether a gold answer holds regions, and nothing else under their names."""
    if isinstance(wanted, list):
        return read_region(wanted, axes=2) is not None
    if not isinstance(wanted, dict) or not {"time", "boxes"} & set(wanted):
        return False
    boxes = wanted.get("boxes")
    regions = [read_region(wanted["time"], axes=1)] if "time" in wanted else []
    if isinstance(boxes, dict):
        regions += [None] if not boxes else [read_region(box, axes=2) for box in boxes.values()]
    elif "boxes" in wanted:
        regions.append(read_region(boxes, axes=2))
    return None not in regions


def _read(text: str, which: str, *, is_bare: bool) -> Any:
    """Return the JSON value of a text, None if it has none; of a bare list the brackets may be missing."""
    for spelling in (text, f"[{text}]") if is_bare else (text,):
        try:
            return json_answer(spelling, which)
        except ValueError:
            continue
    return None
