"""Shows how the training goes: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

SHOWN = {
    "rollout/reward_mean": ("reward", "{:.3f}"),
    "rollout/accuracy": ("acc", "{:.0%}"),
    "credit/lambda": ("lambda", "{:.2f}"),
    "credit/clipped_fraction": ("clip", "{:.1%}"),
    "time/tokens_per_s": ("tok/s", "{:,.0f}"),
}
"""Metric, its short name, its format; in the order of the display."""


def step_summary(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Pick and format the metrics of a step that are worth a glance.

    Args:
        metrics: by full name; numbers or scalar tensors. Names that are missing are left out.

    Example:
        >>> step_summary({"credit/lambda": 0.5, "rollout/accuracy": 0.4219, "loss/policy": 0.1})
        {'acc': '42%', 'lambda': '0.50'}
    """
    return {
        short: form.format(float(metrics[name]))
        for name, (short, form) in SHOWN.items()
        if name in metrics
    }


def duration(seconds: float) -> str:
    """Say a duration the way a clock does.

    Example:
        >>> duration(75), duration(3700)
        ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class RLSDProgressBar(TQDMProgressBar):
    """Counts optimizer steps, not micro-batches, and shows what matters for them.

    Reads trainer.callback_metrics in on_train_batch_end, so a step's metrics must be logged before that hook.
    Where stdout is no terminal (a log file, CI), bars would be noise: whole lines are printed instead.

    Args:
        line_every_n_steps: without a terminal, print a line every n-th step, and for the first and the last.
    """

    BAR_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}<{remaining}{postfix}"

    def __init__(self, line_every_n_steps: int = 10) -> None:
        if line_every_n_steps < 1:
            raise ValueError(
                f"progress_bar: line_every_n_steps is {line_every_n_steps}, needs 1 or more. "
                "For no output at all set trainer.enable_progress_bar=false."
            )
        super().__init__()
        self.line_every_n_steps = line_every_n_steps
        self._start_step = self._step = 0
        self._start_time = 0.0

    @property
    def is_enabled(self) -> bool:
        """Whether bars are drawn."""
        return super().is_enabled and sys.stdout.isatty()

    @property
    def prints_lines(self) -> bool:
        """Whether lines are printed in their stead."""
        return super().is_enabled and not sys.stdout.isatty()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar: the step's summary, then whatever was logged with prog_bar=True."""
        return {**step_summary(trainer.callback_metrics), **trainer.progress_bar_metrics}

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Open the bar where the run stands, which after a resume is not 0."""
        self._start_step = self._step = trainer.global_step
        self._start_time = time.monotonic()
        bar = self.train_progress_bar = self.init_train_tqdm()
        bar.set_description_str("step", refresh=False)
        bar.total = total_steps(trainer)
        bar.initial = bar.n = trainer.global_step
        bar.refresh()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Nothing starts over: the bar counts steps over the whole run."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by one after the last micro-batch of an optimizer step."""
        step = trainer.global_step
        if step == self._step:
            return
        self._step = step
        if self.is_enabled:
            self.train_progress_bar.n = step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=True)
        total = total_steps(trainer)
        if self.prints_lines and (step % self.line_every_n_steps == 0 or step in (1, total)):
            self._print_line(trainer, pl_module, step, total)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step has shown its metrics already."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the held-out results in a line of their own, which the bar does not wipe out.

        Without a logger outside of training nothing is said: there the command itself prints the results.
        """
        super().on_validation_end(trainer, pl_module)
        results = {
            name.removeprefix("val/"): float(value)
            for name, value in sorted(trainer.callback_metrics.items())
            if name.startswith("val/")
        }
        unasked = trainer.state.fn == TrainerFn.VALIDATING and not trainer.loggers
        if trainer.sanity_checking or unasked or not results:
            return
        text = "  ".join(f"{name} {value:,.4g}" for name, value in results.items())
        line = f"step {trainer.global_step}: {text}"
        if self.prints_lines:
            print(line, flush=True)
        else:
            self.print(line)

    def _print_line(
        self, trainer: Trainer, pl_module: LightningModule, step: int, total: int | None
    ) -> None:
        pace = (time.monotonic() - self._start_time) / (step - self._start_step)
        shown = "  ".join(
            f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items()
        )
        left = f"  {duration(pace * (total - step))} left" if total else ""
        print(f"step {step}/{total or '?'}  {shown}  {pace:.2f} s/step{left}", flush=True)


def total_steps(trainer: Trainer) -> int | None:
    """Optimizer steps of the whole run; None while nobody knows."""
    if trainer.max_steps > 0:
        return trainer.max_steps
    total = trainer.estimated_stepping_batches
    return None if total == float("inf") else int(total)
