"""The one place where a run's lambda is written: what a schedule says, times what alarms have left of it.

No callback itself. LambdaDecay and AdaptiveLambda each own one, a run has one of the two, and whoever wants less
evidence (LeakageProbe) asks for it here, so that the next word of the schedule does not undo it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from rlsd_lightning.interfaces import ScheduledCredit

log = logging.getLogger(__name__)


class LambdaControl:
    """Sets `credit.lambda_` to scheduled * scale.

    Example:
        >>> from types import SimpleNamespace
        >>> control, credit = LambdaControl(), SimpleNamespace(lambda_=0.0)
        >>> control.start(credit)
        >>> control.write(0.5)
        >>> control.lower(0.5)
        >>> credit.lambda_
        0.25
        >>> control.write(0.4)
        >>> credit.lambda_
        0.2
    """

    def __init__(self) -> None:
        self.scale = 1.0
        self._scheduled = 0.0
        self._credit: ScheduledCredit | None = None

    def start(self, credit: Any) -> None:
        """Take hold of a credit; one without lambda is left alone, with a warning."""
        if not isinstance(credit, ScheduledCredit):
            log.warning(
                "callbacks.lambda_decay has no effect: %s has no lambda. Take it out with ~callbacks.lambda_decay.",
                type(credit).__name__,
            )
            return
        self._credit = credit

    def write(self, scheduled: float) -> None:
        """Set the lambda of the step to come."""
        self._scheduled = scheduled
        if self._credit is not None:
            self._credit.lambda_ = scheduled * self.scale

    def lower(self, factor: float) -> None:
        """Multiply lambda by a factor, now and in all steps to come."""
        self.scale *= factor
        self.write(self._scheduled)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know: the scale."""
        return {"scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the scale over."""
        self.scale = state["scale"]


@runtime_checkable
class SchedulesLambda(Protocol):
    """A callback that sets lambda before the rollouts of every step are made."""

    lambda_control: LambdaControl


def refuse_two_schedules(callbacks: Iterable[Any]) -> None:
    """Raise a ValueError if more than one callback schedules lambda."""
    names = [
        type(callback).__name__ for callback in callbacks if isinstance(callback, SchedulesLambda)
    ]
    if len(names) > 1:
        raise ValueError(
            f"callbacks: {' and '.join(names)} would all set lambda, and the last one would win silently. Needed: one of "
            "them. Take the others out with callbacks.NAME=null, or choose callbacks=adaptive, which puts "
            "AdaptiveLambda in the place of LambdaDecay."
        )
