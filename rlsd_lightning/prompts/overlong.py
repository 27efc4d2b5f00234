"""Which problems have prompts that fit: found from text and image sizes, before anything is sampled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rlsd_lightning.data.row_checks import MAX_LISTED
from rlsd_lightning.prompts.encoder import PromptTooLongError
from rlsd_lightning.types import Problem

if TYPE_CHECKING:
    from rlsd_lightning.prompts.encoder import PromptEncoder

log = logging.getLogger(__name__)


def filter_overlong(
    problems: Sequence[Problem],
    encoder: PromptEncoder,
    on_overlong: Literal["filter", "error"],
    *,
    with_teacher: bool = False,
) -> tuple[list[int], list[tuple[str, int]]]:
    """Find the problems whose prompts fit.

    Args:
        problems: a data set; only its length and its items are used.
        encoder: has the limits.
        on_overlong: "filter" leaves overlong problems out, "error" refuses them.
        with_teacher: whether the teacher's view must fit too; with an empty reference, as a long one is cut later.

    Returns:
        Indices of the problems that fit, and (location, num_tokens) of the others.

    Raises:
        ValueError: problems are overlong and on_overlong is "error"; none fits; or, whatever on_overlong is, some
            cannot be shown at all (a text that spells an image token, an image shape that the model refuses, ...).
    """
    if on_overlong not in ("filter", "error"):
        raise ValueError(
            f"on_overlong is {on_overlong!r}. Needed: filter or error. Set one of them."
        )
    kept: list[int] = []
    overlong: list[PromptTooLongError] = []
    faults: list[ValueError] = []
    for index in range(len(problems)):
        try:
            encoder.check(problems[index], with_teacher=with_teacher)
        except PromptTooLongError as error:
            overlong.append(error)
        except ValueError as error:
            faults.append(error)
        else:
            kept.append(index)
    if on_overlong == "error":
        faults += overlong
    if faults or not kept:
        raise ValueError(_message(faults or overlong, len(problems)))
    if overlong:
        log.warning(
            "data: left out %d of %d problems, whose prompts are too long.",
            len(overlong),
            len(problems),
        )
    return kept, [(error.location or error.problem_id, error.num_tokens) for error in overlong]


def _message(faults: Sequence[ValueError], num_problems: int) -> str:
    lines = [f"  {fault}" for fault in faults[:MAX_LISTED]]
    if len(faults) > MAX_LISTED:
        lines.append(f"  ... and {len(faults) - MAX_LISTED} more")
    return "\n".join(
        [f"data: {len(faults)} of {num_problems} problems cannot be used as prompts:", *lines]
    )
