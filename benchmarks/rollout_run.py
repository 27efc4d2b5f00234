"""One model of rollout.py, in a process of its own: both engines, in turns."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import numpy as np
import torch
from PIL import Image
from random_model import Shape, write_text_model, write_vision_model

from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.engines.vllm_engine import VLLMEngine
from rlsd_lightning.models import Policy, load_policy, load_reader
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.types import Problem, Prompt, Sampling
from rlsd_lightning.weights import named_weights

PROMPT_CHARACTERS = (40, 60)
IMAGE_PIXELS = 64


def make_prompts(encoder: PromptEncoder, count: int, sees: bool) -> list[Prompt]:
    """Return prompts of about 50 bytes, each with an image if the model sees; no two are alike."""
    draw = random.Random(0)
    prompts = []
    for number in range(count):
        length = draw.randint(*PROMPT_CHARACTERS)
        text = "".join(draw.choice("abcdefgh ") for _ in range(length))
        noise = np.random.default_rng(number).integers(
            0, 256, (IMAGE_PIXELS, IMAGE_PIXELS, 3), dtype=np.uint8
        )
        images = [Image.fromarray(noise)] if sees else []
        prompts.append(encoder.student(Problem(id=str(number), prompt=text, images=images)))
    return prompts


def time_round(engine: Any, prompts: list[Prompt], sampling: Sampling, group_size: int) -> Any:
    """Return completions and tokens per second of one call."""
    started = time.perf_counter()
    groups = engine.generate(prompts, sampling, group_size)
    seconds = time.perf_counter() - started
    lengths = [len(completion.token_ids) for group in groups for completion in group]
    return len(lengths) / seconds, sum(lengths) / seconds


def measure(settings: Any, policy: Policy, engines: list[Any], prompts: list[Prompt]) -> Any:
    """Return one result per engine."""
    results: list[dict[str, Any]] = [
        {
            "prompts": len(prompts),
            "num_weights": sum(weight.numel() for weight in policy.parameters()),
            "completions_per_s": [],
            "tokens_per_s": [],
        }
        for _ in engines
    ]
    for number in range(1 + settings.rounds):
        sampling = Sampling(max_completion_tokens=settings.completion_tokens, seed=number)
        for engine, result in zip(engines, results, strict=True):
            speeds = time_round(engine, prompts, sampling, settings.group_size)
            if number:  # the first round warms up
                for key, speed in zip(("completions_per_s", "tokens_per_s"), speeds, strict=True):
                    result[key].append(speed)
    return results


def main() -> None:
    """Read the folder from the command line and the settings in it; leave result.json."""
    folder = Path(sys.argv[1])
    settings = SimpleNamespace(**json.loads((folder / "settings.json").read_text()))
    torch.set_num_threads(settings.threads)
    path, sees = folder / "model", settings.model == "vl"
    uneven = settings.lengths == "uneven"
    if sees:
        write_vision_model(path, uneven)
    else:
        write_text_model(Shape.of(settings.model), path, settings.dtype, uneven)
    policy = load_policy(str(path), dtype=settings.dtype).to(settings.device).eval()
    processor, family = load_reader(str(path))
    template = PromptTemplate(
        student="{{ problem.prompt }}", teacher="{{ student }}{{ reference }}"
    )
    encoder = PromptEncoder(processor, template, family)
    prompts = make_prompts(encoder, max(settings.prompts), sees)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    ours = TransformersEngine()
    theirs = VLLMEngine(
        str(path),
        dtype=settings.dtype,
        temperature=1.0,
        max_model_len=longest + settings.completion_tokens,
        max_num_seqs=max(settings.prompts) * settings.group_size,
        max_images_per_prompt=1,
        sleep_level=0,
    )
    for engine in (ours, theirs):
        engine.bind(policy, encoder.tokenizer)
    theirs.start()
    torch.set_num_threads(settings.threads)
    theirs.load_weights(named_weights(policy), 0)
    results = [
        result
        for count in settings.prompts
        for result in measure(settings, policy, [ours, theirs], prompts[:count])
    ]
    (folder / "result.json").write_text(json.dumps(results))
    theirs.close()


if __name__ == "__main__":
    main()
