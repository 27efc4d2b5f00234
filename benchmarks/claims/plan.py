"""Which runs the comparison consists of: studies of sweeps, a sweep being one command over several seeds.

lr         four learning rates on the long tasks, on seeds of their own: which one each method gets below
long       GRPO against RLSD on the long tasks, each at the learning rate that `lr` found best
main       every method of the paper's table on the short tasks, all at one learning rate
ablation   RLSD on the drawn shapes with one setting changed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHORT_TASKS = ("shapes", "digits")
LONG_TASKS = ("shapes_long", "digits_long")
RATES = ("1e-4", "2e-4", "4e-4", "8e-4")
USUAL_RATE = "4e-4"
"""That of conf/experiment/claims.yaml."""
TUNING_SEEDS = (101,)
"""Apart from the seeds that are reported: a rate is not chosen by the runs that it is judged by."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "grpo": ("credit=grpo", "callbacks.lambda_decay=null"),
    "rlsd": ("credit=rlsd",),
    "rlsd_plus": (
        "credit=rlsd",
        "credit.clip_range=0.9",
        "credit.evidence=contrast",
        "callbacks.lambda_decay.peak=1",
    ),
    "opsd": ("credit=opsd", "callbacks.lambda_decay=null"),
    "opsd_distribution": ("credit=opsd_distribution", "callbacks.lambda_decay=null"),
    "sdpo": ("credit=sdpo", "callbacks.lambda_decay=null"),
    "grpo_opsd": ("credit=grpo_opsd", "callbacks.lambda_decay=null"),
}
TUNED: Mapping[str, tuple[str, ...]] = {
    label: METHODS[label] for label in ("grpo", "rlsd", "rlsd_plus")
}
ABLATION: Mapping[str, tuple[str, ...]] = {
    "lambda_0.25": ("callbacks.lambda_decay.peak=0.25",),
    "lambda_1": ("callbacks.lambda_decay.peak=1",),
    "lambda_decayed": (
        "callbacks.lambda_decay.hold_steps=0",
        "callbacks.lambda_decay.decay_steps=60",
    ),
    "lambda_1_clip_0.5": ("callbacks.lambda_decay.peak=1", "credit.clip_range=0.5"),
    "lambda_1_clip_0.9": ("callbacks.lambda_decay.peak=1", "credit.clip_range=0.9"),
    "lambda_1_clip_0.9_contrast": (
        "callbacks.lambda_decay.peak=1",
        "credit.clip_range=0.9",
        "credit.evidence=contrast",
    ),
    "mean_one": ("credit.mean_one=true",),
    "negative_only": ("credit.negative_only=true",),
    "teacher_live": ("teacher=live", "~teacher.every_n_steps"),
    "teacher_frozen": ("teacher=frozen", "~teacher.every_n_steps"),
    "reference_answer": ("prompt.reference=answer",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Runs that differ only in their seed: one `fit --multirun`."""

    study: str
    task: str
    label: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Where the runs lie below the runs folder: claims/STUDY/TASK/LABEL."""
        return f"claims/{self.study}/{self.task}/{self.label}"


def rate_sweeps() -> list[Sweep]:
    """Return the runs that choose learning rates."""
    return [
        Sweep(
            study="lr",
            task=task,
            label=f"{label}@{rate}",
            overrides=(*overrides, f"optim.lr={rate}"),
            seeds=TUNING_SEEDS,
        )
        for task in LONG_TASKS
        for label, overrides in TUNED.items()
        for rate in RATES
    ]


def long_sweeps(num_seeds: int, rates: Mapping[tuple[str, str], str]) -> list[Sweep]:
    """Return the runs on the long tasks.

    Args:
        num_seeds: seeds 1, 2, ...
        rates: the learning rate of each (task, label).
    """
    return [
        Sweep(
            study="long",
            task=task,
            label=label,
            overrides=(*overrides, f"optim.lr={rates[task, label]}"),
            seeds=_seeds(num_seeds),
        )
        for task in LONG_TASKS
        for label, overrides in TUNED.items()
    ]


def main_sweeps(num_seeds: int) -> list[Sweep]:
    """Return the runs of every method on the short tasks, seeds 1, 2, ...."""
    return [
        Sweep(study="main", task=task, label=label, overrides=overrides, seeds=_seeds(num_seeds))
        for task in SHORT_TASKS
        for label, overrides in METHODS.items()
    ]


def ablation_sweeps(num_seeds: int) -> list[Sweep]:
    """Return the runs of RLSD with one setting changed, two seeds at most."""
    return [
        Sweep(
            study="ablation",
            task="shapes",
            label=label,
            overrides=("credit=rlsd", *overrides),
            seeds=_seeds(min(num_seeds, 2)),
        )
        for label, overrides in ABLATION.items()
    ]


def best_rates(
    finals: Mapping[tuple[str, str, str], Sequence[float]],
) -> dict[tuple[str, str], str]:
    """Choose each method's learning rate on each task: the highest mean final accuracy, the smaller rate if equal.

    Args:
        finals: final held-out accuracy by (task, label, rate), one per tuning seed.

    Returns:
        The rate of each (task, label).

    Example:
        >>> best_rates({("t", "grpo", "2e-4"): [0.5, 0.5], ("t", "grpo", "4e-4"): [0.4, 0.7]})
        {('t', 'grpo'): '4e-4'}
    """
    chosen: dict[tuple[str, str], str] = {}
    best: dict[tuple[str, str], float] = {}
    for (task, label, rate), values in sorted(finals.items(), key=lambda item: float(item[0][2])):
        mean = sum(values) / len(values)
        if mean > best.get((task, label), -1.0):
            chosen[task, label], best[task, label] = rate, mean
    return chosen


def _seeds(count: int) -> tuple[int, ...]:
    return tuple(range(1, count + 1))
