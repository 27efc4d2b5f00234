"""Completions that give the answer planted in their problem, beside those that give another wrong answer by chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from rlsd_lightning.data.canaries import KEY
from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.types import Rollout


def count_planted(rollouts: Iterable[Rollout], verifier: Verifier) -> tuple[int, int, int]:
    """Count the completions of canaries, those that give the planted answer, and those that give the control.

    Both answers were chosen alike, and only the planted one was shown to the teacher: without a leak they are
    equally likely. The run's own verifier says what a completion answers. One that is right by the true answer
    counts as neither, however the answers are written.

    Args:
        rollouts: of any problems.
        verifier: judges a response by the answer that a problem is given.

    Returns:
        Completions of canaries, planted answers, control answers.
    """
    asked = [r for r in rollouts if KEY in r.problem.extra]
    wrong = [r for r in asked if not r.verdict.correct]
    planted = sum(_gives(r, r.problem.extra[KEY].answer, verifier) for r in wrong)
    control = sum(_gives(r, r.problem.extra[KEY].control, verifier) for r in wrong)
    return len(asked), planted, control


def _gives(rollout: Rollout, answer: str, verifier: Verifier) -> bool:
    problem = dataclasses.replace(rollout.problem, answer=answer)
    return verifier.verify(problem, rollout.completion.text).correct
