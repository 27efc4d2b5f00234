"""One method on one model, for gpu.py: makes the model, trains, and compares with what `plan` expects."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, median

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import torch
from step_ours import compose_run, train
from step_process import StepClock, read_workload
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from rlsd_lightning.planning.architecture import read_config
from rlsd_lightning.planning.flops import plan_step
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.setup import read_setup

TOKEN_IDS = (
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
)


def write_random_model(name: str, folder: Path) -> None:
    """Put random weights of a published size in the place of the workload's model; its small tokenizer stays."""
    small, config = AutoConfig.from_pretrained(folder), read_config(name)
    for key in TOKEN_IDS:
        setattr(config, key, getattr(small, key))
    config.text_config.eos_token_id = config.text_config.bos_token_id = None
    generation = GenerationConfig.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.generation_config = generation
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()


def main() -> None:
    """Read folder, model, method and overrides from the command line; leave result.json in the folder."""
    folder, name, method, *overrides = Path(sys.argv[1]), *sys.argv[2:]
    workload = read_workload(folder / "workload.json")
    if not Path(name).is_dir():
        write_random_model(name, folder / "model")
    torch.set_num_threads(workload.threads)
    cfg = compose_run(workload, folder, method, overrides)
    clock = StepClock(workload.warmup_steps)
    train(cfg, clock)
    measured = clock.measurement
    computed = mean(measured.step_tokens)
    completions = workload.problems * workload.group_size
    prompt = round(computed / completions) - workload.completion_tokens
    cfg.plan.prompt_tokens, cfg.plan.completion_tokens = prompt, workload.completion_tokens
    cfg.plan.reference_tokens = workload.reference_characters
    cfg.plan.image_tokens = (workload.image_pixels // 32) ** 2
    cfg.model.gradient_checkpointing = False  # recomputed work is no progress
    setup = read_setup(cfg)
    flops = plan_step(setup).phases["update"].flops
    cfg.model.gradient_checkpointing = True
    phases = {name: median(seconds) for name, seconds in measured.phases_s.items()}
    update_s = phases["train"] + phases["backward"]
    result = {
        "rollout_s": phases["rollout"],
        "teacher_s": phases["teacher"],
        "update_s": update_s,
        "step_s": median(measured.step_s),
        "completion_tokens": workload.tokens_per_step,
        "computed_tokens": workload.problems * prompt + workload.tokens_per_step,
        "mfu": flops / update_s / setup.gpu.flops_per_s,
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "planned_bytes": plan_memory(read_setup(cfg)).peak,
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
