"""One contender of step.py, in a process of its own: this project, with `credit=grpo` or `credit=rlsd`.

The parts are those of a user's run: composed configuration, build_training, Lightning's Trainer. RLSD is measured at
its dearest: lambda stays at 0.5, so the teacher is asked in every step, and the teacher is a copy of the policy, which
reads the images by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import lightning
import torch
from hydra import compose, initialize_config_module
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from step_process import StepClock, memory_bytes, read_workload
from step_workload import CLIP_GRADIENT_NORM, LEARNING_RATE, Workload, reward_of

from rlsd_lightning.build import Parts, build_training
from rlsd_lightning.config import instantiate, validate
from rlsd_lightning.models import Policy, load_policy
from rlsd_lightning.step_boundary import ends_step
from rlsd_lightning.types import Problem, RolloutBatch, Verdict

METHODS = {"grpo": ["credit=grpo", "teacher=live"], "rlsd": ["credit=rlsd", "teacher=synced"]}
TIMED_CALLBACKS = ("lambda_decay", "teacher_sync", "weight_sync")
PHASES = {
    "rollout": ("rollout",),
    "verify": ("verify",),
    "teacher": ("encode_teacher", "teacher"),
    "train": ("train",),
    "backward": ("backward",),
}
"""Our time/<name>_s metrics by the benchmark's names."""

_memory_when_loaded: list[int] = []


class RewardByLength:
    """The benchmark's trivial reward as a verifier."""

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge by the response alone."""
        reward = reward_of(response)
        return Verdict(reward=reward, correct=reward > 0)


def load_and_weigh(**settings: Any) -> Policy:
    """Load the policy and note the memory at this point, where the teacher has no copy yet."""
    policy = load_policy(**settings)
    _memory_when_loaded.append(memory_bytes())
    return policy


class PhaseClock(Callback):
    """Ends a step on the clock, with the phases as the module logged them."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock
        self._num_tokens = 0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: RolloutBatch,
        batch_idx: int,
    ) -> None:
        """After the optimizer step."""
        self._num_tokens += sum(
            len(r.student.token_ids) + len(r.completion.token_ids) for r in batch.rollouts
        )
        if ends_step(trainer, batch_idx):
            logged = trainer.callback_metrics
            phases = {
                phase: sum(float(logged.get(f"time/{name}_s", 0.0)) for name in names)
                for phase, names in PHASES.items()
            }
            self._clock.end_step(phases, self._num_tokens)
            self._num_tokens = 0


def compose_run(
    workload: Workload, folder: Path, method: str, more: Sequence[str] = ()
) -> DictConfig:
    """Compose the configuration of a `fit` on the workload, with further overrides."""
    overrides = [
        "experiment=none",
        *METHODS[method],
        f"model.path={folder / 'model'}",
        "model.gradient_checkpointing=false",
        "prompt=quickstart",
        f"data.train.path={folder / 'train.jsonl'}",
        "data.shuffle=false",
        "verify_gold_problems=0",
        f"rollout.problems_per_step={workload.problems}",
        f"rollout.group_size={workload.group_size}",
        f"rollout.sampling.max_completion_tokens={workload.completion_tokens}",
        f"optim.lr={LEARNING_RATE}",
        "trainer=cpu",
        f"trainer.max_steps={workload.num_steps}",
        f"trainer.accumulate_grad_batches={workload.micro_batches}",
        f"trainer.gradient_clip_val={CLIP_GRADIENT_NORM}",
        "trainer.enable_progress_bar=false",
        "callbacks.lambda_decay.peak=0.5",
        f"callbacks.lambda_decay.hold_steps={workload.num_steps}",
        f"paths.runs={folder / 'runs'}",
        *more,
    ]
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        cfg = compose("config", overrides)
    cfg.model._target_ = f"{__name__}.load_and_weigh"
    cfg.verifier = {"_target_": f"{__name__}.RewardByLength"}
    validate(cfg, "fit")
    return cfg


def train(cfg: DictConfig, clock: StepClock, *more: Callback) -> tuple[lightning.Trainer, Parts]:
    """Build a run and train for its steps, with the callbacks that a user's run has in each step."""
    lightning.seed_everything(cfg.seed, verbose=False)
    parts = build_training(cfg)
    callbacks = [instantiate(cfg.callbacks[name]) for name in TIMED_CALLBACKS]
    trainer = instantiate(
        cfg.trainer,
        callbacks=[*callbacks, PhaseClock(clock), *more],
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(parts.module, datamodule=parts.datamodule)
    return trainer, parts


def run(workload: Workload, folder: Path, method: str) -> StepClock:
    """Train for the workload's steps."""
    torch.set_num_threads(workload.threads)
    clock = StepClock(workload.warmup_steps)
    train(compose_run(workload, folder, method), clock)
    clock.measurement.peak_bytes = memory_bytes(peak=True) - _memory_when_loaded[0]
    return clock


def main() -> None:
    """Read workload, folder and method from the command line; leave a measurement."""
    folder, result, method = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    run(read_workload(folder / "workload.json"), folder, method).measurement.save(result)


if __name__ == "__main__":
    main()
