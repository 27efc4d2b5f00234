"""Watches for leaks of the reference: does the policy lean on something that only the teacher has read?

Phrases, information, canaries, lengths and style are measured by rlsd_lightning.leakage; this callback asks them at the
end of a step, logs what they say as leakage/..., and raises alarms. docs/leakage.md says what each number means.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lightning.pytorch import Callback

from rlsd_lightning.callbacks.lambda_control import LambdaControl, SchedulesLambda
from rlsd_lightning.interfaces import ScheduledCredit, Verifier
from rlsd_lightning.leakage.alarms import Alarm, Alarms, append_alarms, forget_alarms_after
from rlsd_lightning.leakage.information import probe_information
from rlsd_lightning.leakage.phrases import appeals_to_reference, compile_phrases
from rlsd_lightning.leakage.planted import count_planted
from rlsd_lightning.leakage.style import compile_style, style_means
from rlsd_lightning.leakage.trend import slope
from rlsd_lightning.metrics import Mean, StepMetrics
from rlsd_lightning.records import TokenRecord, decoder
from rlsd_lightning.step_boundary import ends_step, save_and_stop
from rlsd_lightning.types import Rollout

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)

Action = Literal["warn", "lower_lambda", "stop"]

METRICS = (
    "phrase_fraction",
    "information_nats",
    "information_weight_mean",
    "canary_planted_fraction",
    "canary_control_fraction",
    "canary_excess",
    "length_positive",
    "length_negative",
    "length_slope_positive",
    "length_slope_negative",
    "style_credit_fraction",
    "style_token_fraction",
)
"""What is logged under leakage/, and can have an alarm."""


class LeakageProbe(Callback):
    """Measures leakage at the end of each step, from the module's output {"record": TokenRecord}, and raises alarms.

    Acts on the last micro-batch of a step (on_train_batch_end): after LambdaDecay, TeacherSync and WeightSync, and
    before whatever saves. Without lower_lambda and stop it changes nothing in the training, which stays the
    same bit for bit. Its windows and its alarms are checkpointed. Every rank measures its own completions, and all
    decide by the averages over ranks.

    Args:
        phrases: words by which a completion appeals to a reference.
        verifier: says whether a completion of a canary gives the planted answer.
        alarms: thresholds by metric, without "leakage/"; a value above is an alarm; None: no alarm.
        alarms_path: JSONL file of the alarms.
        on_alarm: "warn", "lower_lambda" or "stop" (saves a checkpoint and ends the run; the same command goes on).
        lambda_factor: what each alarm leaves of lambda, with "lower_lambda"; in [0, 1).
        checkpoint_path: where "stop" saves.
        every_n_steps: measure information and style at the first and at every n-th step.
        num_probed: completions per rank whose information is measured; 0 leaves it out.
        num_shuffled: other problems' references that the teacher reads beside the true one.
        max_weight: see token_information.
        window: steps over which slopes and the canaries' rates are taken.
        style_patterns: regular expressions of tokens without content.
    """

    def __init__(
        self,
        *,
        phrases: Sequence[str],
        verifier: Verifier,
        alarms: Mapping[str, float | None],
        alarms_path: str | Path,
        on_alarm: Action,
        lambda_factor: float,
        checkpoint_path: str | Path,
        every_n_steps: int,
        num_probed: int,
        num_shuffled: int,
        max_weight: float,
        window: int,
        style_patterns: Sequence[str],
    ) -> None:
        _check_alarms(alarms, on_alarm, lambda_factor)
        _check_numbers(every_n_steps, num_probed, num_shuffled, max_weight, window)
        self._phrases, self._style = compile_phrases(phrases), compile_style(style_patterns)
        self._verifier = verifier
        thresholds = {name: at for name, at in alarms.items() if at is not None}
        self._alarms = Alarms(thresholds, action=on_alarm)
        self._alarms_path, self._checkpoint_path = Path(alarms_path), Path(checkpoint_path)
        self._on_alarm, self._lambda_factor = on_alarm, lambda_factor
        self._every_n_steps = every_n_steps
        self._num_probed, self._num_shuffled = num_probed, num_shuffled
        self._max_weight = max_weight
        self._window = window
        self._lengths: dict[str, list[tuple[int, float]]] = {"positive": [], "negative": []}
        self._planted: list[tuple[int, float, float, float]] = []
        self._pending: list[TokenRecord] = []

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Refuse an action that could have no effect."""
        if self._on_alarm != "lower_lambda":
            return
        if not isinstance(pl_module.credit, ScheduledCredit) or _control(trainer) is None:
            raise ValueError(
                f"callbacks.leakage_probe.on_alarm is lower_lambda, but {type(pl_module.credit).__name__} has no lambda or "
                "no callback schedules it. Needed: a credit with lambda and callbacks.lambda_decay. Set it to warn or stop."
            )

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget what an interrupted fit left of a step, and the alarms of steps that come again."""
        self._pending = []
        if trainer.is_global_zero:
            forget_alarms_after(self._alarms_path, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the micro-batch; measure, log and raise alarms once its step is done."""
        self._pending.append(outputs["record"])
        if not ends_step(trainer, batch_idx):
            return
        records, self._pending = self._pending, []
        step = records[0].step
        values = self._measure(records, step, trainer, pl_module)
        # Not by pl_module.log, which repeats a value at every step until it is measured anew.
        for logger in trainer.loggers:
            logger.log_metrics({f"leakage/{name}": v for name, v in values.items()}, step=step)
        begun = self._alarms.update(step, values)
        if begun:
            self._act(begun, trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the windows, and what is above its threshold."""
        return {
            "lengths": {sign: [*points] for sign, points in self._lengths.items()},
            "planted": [*self._planted],
            "alarms": self._alarms.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._lengths = {sign: [*points] for sign, points in state_dict["lengths"].items()}
        self._planted = [*state_dict["planted"]]
        self._alarms.load_state_dict(state_dict["alarms"])

    def _measure(
        self, records: list[TokenRecord], step: int, trainer: Trainer, pl_module: Any
    ) -> dict[str, float]:
        """Return what was measured at this step, over all ranks."""
        rollouts = [rollout for record in records for rollout in record.rollouts]
        found = StepMetrics()
        found.add(self._counted(rollouts))
        if step == 1 or step % self._every_n_steps == 0:
            found.add(style_means(records, self._style, decoder(pl_module.encoder.tokenizer)))
            with trainer.precision_plugin.forward_context():
                found.add(self._information(rollouts, pl_module))
        values = found.reduce()
        values |= self._slopes(step, values)
        canaries = tuple(values.pop(name) for name in ("canaries", "planted", "control"))
        return values | self._canary_rates(step, *canaries)

    def _counted(self, rollouts: list[Rollout]) -> dict[str, Mean]:
        """Count what shows in texts and lengths; the canaries' counts are per rank."""
        leaking = sum(
            appeals_to_reference(r.completion.text, r.problem.prompt, self._phrases)
            for r in rollouts
        )
        canaries, planted, control = count_planted(rollouts, self._verifier)
        lengths = {
            "length_positive": [len(r.completion.token_ids) for r in rollouts if r.advantage > 0],
            "length_negative": [len(r.completion.token_ids) for r in rollouts if r.advantage < 0],
        }
        return {
            "phrase_fraction": Mean(leaking, len(rollouts)),
            "canaries": Mean(canaries, 1),
            "planted": Mean(planted, 1),
            "control": Mean(control, 1),
            **{name: Mean(sum(found), len(found)) for name, found in lengths.items() if found},
        }

    def _slopes(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Add this step's lengths to the windows; return the slopes of those that are full, in tokens per step."""
        found = {}
        for sign, points in self._lengths.items():
            if f"length_{sign}" in values:
                points.append((step, values[f"length_{sign}"]))
                del points[: -self._window]
            if len(points) == self._window:
                found[f"length_slope_{sign}"] = slope(points)
        return found

    def _canary_rates(
        self, step: int, canaries: float, planted: float, control: float
    ) -> dict[str, float]:
        """Return the rates over the window's completions of canaries; nothing while there are none."""
        self._planted.append((step, canaries, planted, control))
        del self._planted[: -self._window]
        total, planted, control = (sum(row[i] for row in self._planted) for i in (1, 2, 3))
        if total == 0:
            return {}
        return {
            "canary_planted_fraction": planted / total,
            "canary_control_fraction": control / total,
            "canary_excess": (planted - control) / total,
        }

    def _information(self, rollouts: list[Rollout], pl_module: Any) -> dict[str, Mean]:
        """Score some completions anew under several references."""
        return probe_information(
            rollouts,
            pl_module.encoder,
            pl_module.teacher.weights(pl_module.policy),
            pl_module.temperature,
            num_probed=self._num_probed,
            num_shuffled=self._num_shuffled,
            max_weight=self._max_weight,
        )

    def _act(self, begun: list[Alarm], trainer: Trainer) -> None:
        """Say the alarms, note them in the file, and do what they set off."""
        if trainer.is_global_zero:
            append_alarms(self._alarms_path, begun)
        for alarm in begun:
            log.warning(
                "Leakage alarm at step %d: leakage/%s is %.4g, above %.4g; %s. See docs/leakage.md.",
                alarm.step,
                alarm.metric,
                alarm.value,
                alarm.threshold,
                self._said(),
            )
        if self._on_alarm == "lower_lambda":
            control = _control(trainer)
            assert control is not None, "setup has seen one"
            control.lower(self._lambda_factor ** len(begun))
        if self._on_alarm == "stop":
            save_and_stop(trainer, self._checkpoint_path)

    def _said(self) -> str:
        """Name what an alarm sets off."""
        return {
            "warn": "nothing is changed",
            "lower_lambda": f"lambda is multiplied by {self._lambda_factor:g} from now on",
            "stop": f"the run stops and is saved as {self._checkpoint_path}",
        }[self._on_alarm]


def _control(trainer: Trainer) -> LambdaControl | None:
    """Return what writes lambda; None if nothing does."""
    schedules = [c for c in trainer.callbacks if isinstance(c, SchedulesLambda)]  # type: ignore[attr-defined]
    return schedules[0].lambda_control if schedules else None


def _check_alarms(alarms: Mapping[str, float | None], on_alarm: str, lambda_factor: float) -> None:
    unknown = [name for name in alarms if name not in METRICS]
    if unknown:
        raise ValueError(
            f"callbacks.leakage_probe.alarms names {', '.join(unknown)}, which nothing measures. Needed: some of "
            f"{', '.join(METRICS)}."
        )
    if on_alarm not in get_args(Action):
        raise ValueError(
            f"callbacks.leakage_probe.on_alarm is {on_alarm!r}. Needed: one of {', '.join(get_args(Action))}."
        )
    if on_alarm == "lower_lambda" and not 0 <= lambda_factor < 1:
        raise ValueError(
            f"callbacks.leakage_probe.lambda_factor is {lambda_factor}, which lowers nothing. Set it in [0, 1)."
        )


def _check_numbers(
    every_n_steps: int, num_probed: int, num_shuffled: int, max_weight: float, window: int
) -> None:
    least = {
        "every_n_steps": (every_n_steps, 1),
        "num_probed": (num_probed, 0),
        "num_shuffled": (num_shuffled, 1),
        "max_weight": (max_weight, 1),
        "window": (window, 2),
    }
    faults = [
        f"{name} is {value}, needs {low} or more"
        for name, (value, low) in least.items()
        if value < low
    ]
    if faults:
        raise ValueError("callbacks.leakage_probe: " + "; ".join(faults) + ". Correct it.")
