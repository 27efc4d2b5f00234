"""What every contender of step.py trains on: one model, one set of problems, one reward.

The model's stop token lies outside its vocabulary, so no side can sample it and every completion runs to the limit.
Every step has problems and images of its own, so that nothing cached from an earlier step saves work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

STOP_TOKEN = "<|stop_outside_the_vocabulary|>"
LEARNING_RATE = 1e-6
CLIP_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The shape of one optimizer step, and how many of them."""

    problems: int
    """P, prompts per step."""
    group_size: int
    """G, completions per prompt."""
    completion_tokens: int
    """T, exactly, of every completion."""
    image_pixels: int
    """Width and height of each problem's image: one image token per 16 x 16 pixels."""
    reference_characters: int
    """Length of what only the teacher reads; one character is one token."""
    hidden_size: int
    """H of the language model; the vision tower has half of it."""
    layers: int
    """Of the language model."""
    micro_batches: int
    """K, forward and backward passes per optimizer step."""
    threads: int
    """Of torch."""
    warmup_steps: int
    """First steps that are not counted."""
    timed_steps: int
    """Steps that are."""

    @property
    def num_steps(self) -> int:
        """Count all optimizer steps of a contender's run."""
        return self.warmup_steps + self.timed_steps

    @property
    def tokens_per_step(self) -> int:
        """Count the completion tokens of a step."""
        return self.problems * self.group_size * self.completion_tokens


@dataclass(frozen=True, slots=True)
class Question:
    """One problem before it takes a contender's form."""

    text: str
    image: Path
    reference: str


def reward_of(response: str) -> float:
    """Reward about half of all completions, whatever the policy: those of an even number of characters.

    Example:
        >>> reward_of("ab"), reward_of("abc")
        (1.0, 0.0)
    """
    return float(len(response) % 2 == 0)


def write_workload(workload: Workload, folder: Path) -> None:
    """Write `model/`, `train.jsonl` and `images/` into an empty folder."""
    write_model(workload, folder / "model")
    (folder / "images").mkdir()
    rows = []
    for number in range(workload.problems * workload.num_steps):
        image = f"images/{number:06d}.png"
        _noise(number, workload.image_pixels).save(folder / image)
        rows.append(
            {
                "id": f"{number:06d}",
                "problem": f"What does picture {number:06d} show?",
                "answer": "noise",
                "images": [image],
                "reference": "".join(
                    chr(97 + (number + i) % 26) for i in range(workload.reference_characters)
                ),
                "kind": "free",
            }
        )
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_questions(folder: Path) -> list[Question]:
    """Read back what write_workload wrote, in order."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [Question(row["problem"], folder / row["images"][0], row["reference"]) for row in rows]


def _noise(seed: int, pixels: int) -> Image.Image:
    """Draw a picture that no two problems share."""
    values = np.random.default_rng(seed).integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
    return Image.fromarray(values)


def write_model(workload: Workload, folder: Path) -> None:
    """Write an untrained Qwen3VLForConditionalGeneration with the quickstart's processor."""
    from rlsd_lightning.quickstart.tiny_model import build_model, build_processor

    processor = build_processor()
    tokenizer = processor.tokenizer
    model = build_model(tokenizer, seed=0)
    if (workload.hidden_size, workload.layers) != (
        model.config.text_config.hidden_size,
        model.config.text_config.num_hidden_layers,
    ):
        model = _resized(model, workload.hidden_size, workload.layers)
    tokenizer.add_special_tokens({"eos_token": STOP_TOKEN})
    assert tokenizer.eos_token_id >= model.config.text_config.vocab_size
    model.config.text_config.eos_token_id = None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _resized(model: object, hidden_size: int, layers: int) -> object:
    """Build the same architecture in another size, from its configuration alone."""
    import torch

    config, generation_config = model.config, model.generation_config
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size = hidden_size, 3 * hidden_size
    text.num_hidden_layers = layers
    text.num_attention_heads = hidden_size // text.head_dim
    text.num_key_value_heads = max(1, text.num_attention_heads // 2)
    text.initializer_range = 1 / hidden_size**0.5
    vision.hidden_size, vision.intermediate_size = hidden_size // 2, hidden_size
    vision.num_heads = max(1, hidden_size // 64)
    vision.out_hidden_size = hidden_size
    torch.manual_seed(0)
    resized = type(model)(config)
    resized.generation_config = generation_config
    return resized
