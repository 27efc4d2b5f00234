"""Times RLSD against GRPO on one GPU, with randomly initialised models of the published sizes, phase by phase.

    python benchmarks/gpu.py --models Qwen/Qwen3-VL-2B-Instruct Qwen/Qwen3-VL-4B-Instruct
    python benchmarks/gpu.py --models Qwen/Qwen3-VL-8B-Instruct --more 'model.lora={rank: 32, alpha: 64}' model.dtype=bfloat16

A step is a whole one: rollouts by the transformers engine, the teacher, the update. Every completion runs to the limit.
MFU counts the update's arithmetic as `plan` does, the recomputation of gradient checkpointing left out, against the card's
published FLOP/s. Peak is the allocator's largest, plan what `plan` expected of the same lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from _table import table
from step_workload import Workload, write_workload

HERE = Path(__file__).parent
HEADER = (
    *("model", "method", "rollout s", "tokens/s", "teacher s", "update s", "tokens/s", "MFU"),
    *("step s", "peak GiB", "plan GiB"),
)
METHODS = ("grpo", "rlsd")


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["Qwen/Qwen3-VL-4B-Instruct"])
    parser.add_argument("--gpu", default="h200", help="whose published FLOP/s count: plan.gpu")
    parser.add_argument("--problems", type=int, default=8, help="P, prompts per step")
    parser.add_argument("--group-size", type=int, default=8, help="G, completions per prompt")
    parser.add_argument("--completion-tokens", type=int, default=512, help="T, of every completion")
    parser.add_argument("--image-pixels", type=int, default=448, help="width and height")
    parser.add_argument("--reference-characters", type=int, default=64, help="teacher only")
    parser.add_argument("--micro-batches", type=int, default=8, help="K, per optimizer step")
    parser.add_argument("--timed-steps", type=int, default=3)
    parser.add_argument("--trainer", default="default", help="trainer=... of conf/trainer")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--more", nargs="*", default=[], help="further overrides of the run")
    return parser.parse_args(words)


def workload_of(args: argparse.Namespace) -> Workload:
    """Return the step's shape; the model's size comes from its published config."""
    return Workload(
        problems=args.problems,
        group_size=args.group_size,
        completion_tokens=args.completion_tokens,
        image_pixels=args.image_pixels,
        reference_characters=args.reference_characters,
        hidden_size=64,
        layers=3,
        micro_batches=args.micro_batches,
        threads=os.cpu_count() or 1,
        warmup_steps=1,
        timed_steps=args.timed_steps,
    )


def measure(args: argparse.Namespace, model: str, method: str) -> dict[str, float]:
    """Run one method on one model in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload = workload_of(args)
        write_workload(workload, folder)
        (folder / "workload.json").write_text(json.dumps(asdict(workload)))
        overrides = [
            f"trainer={args.trainer}",
            f"trainer.precision={args.precision}",
            f"trainer.accumulate_grad_batches={args.micro_batches}",
            "model.gradient_checkpointing=true",
            f"plan.gpu={args.gpu}",
            *args.more,
        ]
        done = subprocess.run(
            [
                *(sys.executable, str(HERE / "gpu_run.py"), str(folder), model, method),
                *overrides,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{method} on {model}:\n{done.stderr}")
        return json.loads((folder / "result.json").read_text())


def row(model: str, method: str, measured: dict[str, float]) -> list[str]:
    """Return a line of the table; a dash where there is no GPU to measure."""
    on_gpu = measured["peak_bytes"] > 0
    return [
        model.split("/")[-1],
        method,
        f"{measured['rollout_s']:.2f}",
        f"{measured['completion_tokens'] / measured['rollout_s']:,.0f}",
        f"{measured['teacher_s']:.2f}",
        f"{measured['update_s']:.2f}",
        f"{measured['computed_tokens'] / measured['update_s']:,.0f}",
        f"{measured['mfu']:.1%}" if on_gpu else "-",
        f"{measured['step_s']:.2f}",
        f"{measured['peak_bytes'] / 2**30:.1f}" if on_gpu else "-",
        f"{measured['planned_bytes'] / 2**30:.3g}",
    ]


def main(words: Sequence[str]) -> None:
    """Measure what the command line asks for and print the table."""
    args = arguments(words)
    rows = [row(m, how, measure(args, m, how)) for m in args.models for how in METHODS]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
