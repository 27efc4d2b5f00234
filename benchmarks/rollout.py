"""Completions and tokens per second of the engines `transformers` and `vllm`: same model, prompts and sampling, in turns.

    python benchmarks/rollout.py                                  four models, 8 and 32 prompts, 64 tokens, G = 8
    python benchmarks/rollout.py --models 512x8 --prompts 32 --threads 1
    python benchmarks/rollout.py --device cuda --dtype bfloat16   on a GPU

Models are random Qwen3, given as hidden size x layers, and `vl`, a tiny Qwen3-VL whose prompts have an image each. Both
engines are in one process, have the same weights, and take turns.

    even      no token stops a completion: all have as many tokens as they may.
    uneven    one token in eight stops: lengths are 8 on average, and a few are long.

    completions/s, tokens/s   of the median round, by the clock; in brackets tokens/s of the best one.
    faster                    the engine with more tokens/s in the median round, and by how much.

Needs vLLM.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from _table import table

HERE = Path(__file__).parent
LENGTHS = ("even", "uneven")
ENGINES = ("transformers", "vllm")
HEADER = (
    *("model", "M weights", "prompts", "lengths", "engine", "completions/s", "tokens/s"),
    *("(best)", "faster"),
)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["64x2", "256x4", "512x8", "vl"])
    parser.add_argument("--prompts", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--group-size", type=int, default=8, help="G, completions per prompt")
    parser.add_argument("--completion-tokens", type=int, default=64, help="the most of one")
    parser.add_argument("--dtype", default="float32", help="of both engines")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch")
    parser.add_argument("--rounds", type=int, default=5, help="that are timed, after one more")
    return parser.parse_args(words)


def measure(args: argparse.Namespace, model: str, lengths: str) -> list[dict[str, Any]]:
    """Measure both engines on one model in a fresh process; one result per number of prompts and engine."""
    with tempfile.TemporaryDirectory() as name:
        settings = vars(args) | {"model": model, "lengths": lengths}
        (Path(name) / "settings.json").write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, str(HERE / "rollout_run.py"), name],
            env=os.environ | {"OMP_NUM_THREADS": str(args.threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{model}, {lengths}:\n{done.stderr}")
        return json.loads((Path(name) / "result.json").read_text())


def rows(model: str, lengths: str, measured: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table's lines of one model; every other one names the faster engine."""
    lines = []
    for ours, theirs in zip(measured[::2], measured[1::2], strict=True):
        speeds = [median(each["tokens_per_s"]) for each in (ours, theirs)]
        faster = ENGINES[speeds[1] > speeds[0]]
        verdict = f"{faster} {max(speeds) / min(speeds):.1f}x"
        for engine, each in zip(ENGINES, (ours, theirs), strict=True):
            lines.append(
                [
                    model,
                    f"{each['num_weights'] / 1e6:.1f}",
                    str(each["prompts"]),
                    lengths,
                    engine,
                    f"{median(each['completions_per_s']):,.0f}",
                    f"{median(each['tokens_per_s']):,.0f}",
                    f"({max(each['tokens_per_s']):,.0f})",
                    *([verdict] if engine == ENGINES[1] else ["-"]),
                ]
            )
    return lines


def main(words: Sequence[str]) -> None:
    """Measure what the command line asks for and print the table."""
    args = arguments(words)
    lines = [
        line
        for model in args.models
        for lengths in args.lengths
        for line in rows(model, lengths, measure(args, model, lengths))
    ]
    print(
        f"{args.device}, {args.dtype}, {args.threads} threads, G = {args.group_size}, at most "
        f"{args.completion_tokens} tokens, {args.rounds} rounds"
    )
    print(table(HEADER, lines))


if __name__ == "__main__":
    main(sys.argv[1:])
