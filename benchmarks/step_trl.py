"""One contender of step.py, in a process of its own: TRL's GRPOTrainer on the same model, prompts and lengths.

Set up as a careful user would: float32, scaled-dot-product attention, no gradient checkpointing, no KL term, one
optimizer step per generation, nothing logged or saved.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import torch
from datasets import Dataset, Image, List
from step_process import StepClock, memory_bytes, read_workload
from step_workload import CLIP_GRADIENT_NORM, LEARNING_RATE, Workload, read_questions, reward_of
from transformers import (
    AutoProcessor,
    Qwen3VLForConditionalGeneration,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer
from trl.extras.profiling import ProfilingContext


class PhaseClock(TrainerCallback):
    """Ends a step on the clock, with the phases as TRL's own profiling measured them."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = defaultdict(float)
        self._tokens_before = 0
        self.trainer: GRPOTrainer | None = None

    def keep(self, context: ProfilingContext, duration: float) -> None:
        """Take a duration that would otherwise go to a tracker."""
        self._seconds[context.name.removeprefix("GRPOTrainer.")] += duration

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After the optimizer step."""
        assert self.trainer is not None
        seconds, self._seconds = self._seconds, defaultdict(float)
        step_s = self.trainer._metrics["train"]["step_time"][-1]
        num_tokens, self._tokens_before = (
            state.num_input_tokens_seen - self._tokens_before,
            state.num_input_tokens_seen,
        )
        self._clock.end_step(phases(seconds, step_s), num_tokens)


def phases(seconds: Mapping[str, float], step_s: float) -> dict[str, float]:
    """Translate TRL's names: `_prepare_inputs` holds generation and rewards, the rest of `training_step` is backward."""
    rewards, prepare = seconds["_calculate_rewards"], seconds["_prepare_inputs"]
    forward = seconds["compute_loss"]
    return {
        "rollout": prepare - rewards,
        "verify": rewards,
        "train": forward,
        "backward": step_s - prepare - forward,
    }


def rewards(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """Judge completions in TRL's conversational form."""
    return [reward_of(completion[0]["content"]) for completion in completions]


def dataset(folder: Path) -> Dataset:
    """Return the problems in TRL's form: messages and a column of images."""
    rows = [
        {"prompt": [{"role": "user", "content": question.text}], "images": [str(question.image)]}
        for question in read_questions(folder)
    ]
    return Dataset.from_list(rows).cast_column("images", List(Image()))


def config(workload: Workload, folder: Path, placeholder_ids: list[int]) -> GRPOConfig:
    """Return the settings; `generation_kwargs` bans the tokens that stand for images, as our engine does."""
    completions = workload.problems * workload.group_size
    return GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=completions // workload.micro_batches,
        gradient_accumulation_steps=workload.micro_batches,
        steps_per_generation=workload.micro_batches,
        num_generations=workload.group_size,
        max_completion_length=workload.completion_tokens,
        temperature=1.0,
        generation_kwargs={"suppress_tokens": placeholder_ids},
        beta=0.0,
        loss_type="dapo",
        shuffle_dataset=False,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=CLIP_GRADIENT_NORM,
        max_steps=workload.num_steps,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def run(workload: Workload, folder: Path) -> StepClock:
    """Train for the workload's steps."""
    torch.set_num_threads(workload.threads)
    processor = AutoProcessor.from_pretrained(folder / "model")
    data = dataset(folder)
    model = Qwen3VLForConditionalGeneration.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation="sdpa"
    )
    loaded = memory_bytes()
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    banned = [getattr(model.config, name) for name in names]
    clock = StepClock(workload.warmup_steps)
    phase_clock = PhaseClock(clock)
    ProfilingContext._log_metrics = lambda context, duration: phase_clock.keep(context, duration)
    trainer = GRPOTrainer(
        model,
        reward_funcs=rewards,
        args=config(workload, folder, banned),
        train_dataset=data,
        processing_class=processor,
        callbacks=[phase_clock],
    )
    phase_clock.trainer = trainer
    trainer.train()
    clock.measurement.peak_bytes = memory_bytes(peak=True) - loaded
    return clock


def main() -> None:
    """Read workload and folder from the command line; leave a measurement."""
    folder, result = Path(sys.argv[1]), Path(sys.argv[2])
    run(read_workload(folder / "workload.json"), folder).measurement.save(result)


if __name__ == "__main__":
    main()
