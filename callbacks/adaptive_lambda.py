"""The two-phase schedule that watches the reward: lambda stays at its peak while the reward rises, then decays.

RLSD (arXiv:2604.03128) has two phases and leaves open what should begin the second one; its code counts steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from rlsd_lightning.callbacks.lambda_control import LambdaControl, refuse_two_schedules
from rlsd_lightning.credit import lambda_at
from rlsd_lightning.credit.schedule import Shape
from rlsd_lightning.step_boundary import ends_step

log = logging.getLogger(__name__)


def has_stopped_rising(
    values: Sequence[float], window: int, patience: int, min_rise: float
) -> bool:
    """Say whether the moving average of a quantity has stopped rising.

    m_s = mean of the `window` values up to step s; it has stopped if none of the last `patience` averages is at
    least `min_rise` above the best one before them. Compared with the best and not with the one `patience` steps
    ago, so that a single bad step ends nothing.

    Args:
        values: one per step, the latest last. [S]
        window: steps averaged.
        patience: steps without a new best average, by min_rise, that count as a stop.
        min_rise: in the quantity's own unit.

    Returns:
        False as long as there are fewer than window + patience values.

    Example:
        >>> has_stopped_rising([0.1, 0.2, 0.3, 0.4], window=1, patience=2, min_rise=0.05)
        False
        >>> has_stopped_rising([0.1, 0.3, 0.31, 0.3], window=1, patience=2, min_rise=0.05)
        True
    """
    if len(values) < window + patience:
        return False
    averages = [
        math.fsum(values[end - window : end]) / window for end in range(window, len(values) + 1)
    ]
    return max(averages[-patience:]) - max(averages[:-patience]) < min_rise


class AdaptiveLambda(Callback):
    """Sets `credit.lambda_` before the rollouts of every step are made: at the peak until a metric stops rising.

    Acts after on_train_start and after the last micro-batch of each step (on_train_batch_end), once the step's
    metrics are logged. The metric's history and the step at which the decay began are checkpointed: a resumed run
    is the same, bit for bit. The metrics are averages over all ranks, so every rank decides alike.

    Args:
        peak: lambda during the first phase, in [0, 1].
        warmup_steps: steps from 0 to the peak.
        hold_steps: steps at the peak at least, whatever the metric does.
        decay_steps: steps from the peak to 0.
        shape: of the decay, "linear", "cosine" or "step".
        monitor: a metric that is logged at every step, the higher the better.
        window: steps of its moving average; more than its noise lasts.
        patience: steps without a rise after which the decay begins.
        min_rise: what counts as a rise, in the metric's unit.
        max_hold_steps: steps at the peak at most; None: as long as the metric rises.
    """

    def __init__(
        self,
        peak: float,
        warmup_steps: int,
        hold_steps: int,
        decay_steps: int,
        shape: Shape = "linear",
        *,
        monitor: str = "rollout/reward_mean",
        window: int = 10,
        patience: int = 20,
        min_rise: float = 0.01,
        max_hold_steps: int | None = None,
    ) -> None:
        _check(monitor, hold_steps, decay_steps, window, patience, min_rise, max_hold_steps)
        self._fall = {
            "peak": peak,
            "warmup_steps": warmup_steps,
            "decay_steps": decay_steps,
            "shape": shape,
        }
        lambda_at(1, hold_steps=hold_steps, **self._fall)  # a fault shows here, not in the middle
        self._warmup_steps = warmup_steps
        self._hold_steps, self._max_hold_steps = hold_steps, max_hold_steps
        self._monitor = monitor
        self._rule = {"window": window, "patience": patience, "min_rise": min_rise}
        self._history: list[float] = []
        self.last_peak_step: int | None = None
        """The last step at the peak; None while it is not known."""
        self.lambda_control = LambdaControl()

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Refuse a second schedule before anything is computed."""
        refuse_two_schedules(trainer.callbacks)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Set the lambda of the first step, or of the first after a resume."""
        self.lambda_control.start(pl_module.credit)
        self._set(trainer.global_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the step's metric; set the lambda of the step to come."""
        if not ends_step(trainer, batch_idx):
            return
        value = float(trainer.callback_metrics.get(self._monitor, math.nan))
        if not math.isfinite(value):
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(
                f"callbacks.lambda_decay.monitor is {self._monitor!r}, of which step {trainer.global_step} logged no finite "
                f"value. Needed: a metric of every step. Set it to one of: {known}."
            )
        self._history.append(value)
        self._set(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the history, the last step at the peak, and what alarms have left of lambda."""
        return {
            "history": [*self._history],
            "last_peak_step": self.last_peak_step,
            **self.lambda_control.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._history = [*state_dict["history"]]
        self.last_peak_step = state_dict["last_peak_step"]
        self.lambda_control.load_state_dict(state_dict)

    def _set(self, steps_done: int) -> None:
        if self.last_peak_step is None:
            self._decide(steps_done)
        last = steps_done + 1 if self.last_peak_step is None else self.last_peak_step
        hold_steps = max(last - self._warmup_steps, 0)
        self.lambda_control.write(lambda_at(steps_done + 1, hold_steps=hold_steps, **self._fall))

    def _decide(self, steps_done: int) -> None:
        """Begin the decay after this step if it is time."""
        held = steps_done - self._warmup_steps
        too_long = self._max_hold_steps is not None and held >= self._max_hold_steps
        stopped = held >= self._hold_steps and has_stopped_rising(self._history, **self._rule)
        if not (too_long or stopped):
            return
        self.last_peak_step = steps_done
        reason = (
            f"{self._monitor} stopped rising"
            if stopped
            else f"callbacks.lambda_decay.max_hold_steps is {self._max_hold_steps}"
        )
        log.info("Lambda decays from step %d on: %s.", steps_done + 1, reason)


def _check(
    monitor: str,
    hold_steps: int,
    decay_steps: int,
    window: int,
    patience: int,
    min_rise: float,
    max_hold_steps: int | None,
) -> None:
    faults = []
    if monitor.startswith(("val/", "test/")):
        faults.append(f"monitor is {monitor!r}, needs a metric of every training step")
    if decay_steps < 1:
        faults.append(f"decay_steps is {decay_steps}, needs 1 or more, or there is no second phase")
    for name, value in {"window": window, "patience": patience}.items():
        if value < 1:
            faults.append(f"{name} is {value}, needs 1 or more steps")
    if not min_rise > 0:
        faults.append(
            f"min_rise is {min_rise}, needs a number above 0: at 0 a constant would rise for ever"
        )
    if max_hold_steps is not None and max_hold_steps < hold_steps:
        faults.append(
            f"max_hold_steps is {max_hold_steps}, needs hold_steps ({hold_steps}) or more"
        )
    if faults:
        raise ValueError(
            "AdaptiveLambda: " + "; ".join(faults) + ". Set it in callbacks.lambda_decay."
        )
