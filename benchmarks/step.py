"""Times a full optimizer step, phase by phase: our GRPO, our RLSD and TRL's GRPOTrainer on the same work.

    python benchmarks/step.py                       with TRL, if it is installed: pip install '.[peers]'
    python benchmarks/step.py --quick               a small shape, ours only

Same model, prompts, images, group size, completion lengths, reward, optimizer, float32 and threads. Every completion
runs to the limit on both sides: see step_workload.py. Each contender runs in fresh processes, round by round in turn;
the numbers are medians over all timed steps, so a step of ours is compared at lengths that do not depend on luck.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from _table import table
from step_process import PHASES, Measurement
from step_workload import Workload, write_workload

HERE = Path(__file__).parent
CONTENDERS = {
    "GRPO, ours": ("step_ours.py", "grpo"),
    "RLSD, ours": ("step_ours.py", "rlsd"),
    "GRPO, TRL": ("step_trl.py",),
}
OURS = ("GRPO, ours", "RLSD, ours")
RLSD_TARGET = 1.25
"""RLSD's step at most this many times our GRPO's."""
TRL_TARGET = 2.0
"""TRL's step at least this many times our GRPO's."""
QUICK = [
    "--problems=2",
    "--group-size=2",
    "--completion-tokens=4",
    "--image-pixels=48",
    "--warmup-steps=1",
    "--timed-steps=2",
    "--rounds=1",
]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small shape in seconds, ours only")
    parser.add_argument("--problems", type=int, default=16, help="P, prompts per step")
    parser.add_argument("--group-size", type=int, default=8, help="G, completions per prompt")
    parser.add_argument("--completion-tokens", type=int, default=32, help="T, of every completion")
    parser.add_argument(
        "--image-pixels", type=int, nargs="+", default=[48, 224], help="one table for each"
    )
    parser.add_argument("--reference-characters", type=int, default=24, help="teacher only")
    parser.add_argument("--hidden-size", type=int, default=64, help="of the language model")
    parser.add_argument("--layers", type=int, default=3, help="of the language model")
    parser.add_argument("--micro-batches", type=int, default=1, help="K, per optimizer step")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--warmup-steps", type=int, default=2, help="not counted; at least 1")
    parser.add_argument("--timed-steps", type=int, default=4, help="per round")
    parser.add_argument("--rounds", type=int, default=3, help="processes per contender")
    args = parser.parse_args(words)
    return parser.parse_args([*QUICK, *words]) if args.quick else args


def workload_of(args: argparse.Namespace, image_pixels: int) -> Workload:
    """Return the shape that the command line asks for."""
    fields = {name: getattr(args, name) for name in Workload.__dataclass_fields__ if name in args}
    return Workload(**{**fields, "image_pixels": image_pixels})


def measure(
    workload: Workload, contenders: Sequence[str], rounds: int
) -> dict[str, list[Measurement]]:
    """Run every contender `rounds` times, in turn, on one folder of data."""
    measured: dict[str, list[Measurement]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        write_workload(workload, Path(folder))
        (Path(folder) / "workload.json").write_text(json.dumps(asdict(workload)))
        for _ in range(rounds):
            for name in contenders:
                measured[name].append(_run(name, workload, Path(folder)))
    check_same_work(measured)
    return measured


def _run(name: str, workload: Workload, folder: Path) -> Measurement:
    script, *method = CONTENDERS[name]
    result = folder / "measurement.json"
    environment = {
        "OMP_NUM_THREADS": str(workload.threads),
        "OMP_WAIT_POLICY": "passive",  # where cores are shared, spinning would be most of the time
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / script), str(folder), str(result), *method],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {script} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return Measurement.load(result)


def check_same_work(measured: dict[str, list[Measurement]]) -> None:
    """Make sure that all contenders had as many prompt and completion tokens in every step.

    Raises:
        RuntimeError: they had not, so that their seconds say nothing about each other.
    """
    counts = {name: {n for m in runs for n in m.step_tokens} for name, runs in measured.items()}
    if len(set.union(*counts.values())) != 1:
        raise RuntimeError(
            f"the contenders had different prompt and completion tokens per step: {counts}. Their prompts or lengths "
            "differ; a comparison needs them equal."
        )


def step_seconds(runs: Sequence[Measurement]) -> float:
    """Return the median step's wall clock."""
    return median(s for run in runs for s in run.step_s)


def row(name: str, runs: Sequence[Measurement], tokens_per_step: int) -> list[str]:
    """Format one contender's medians."""
    step_s = step_seconds(runs)
    phases = [median(s for run in runs for s in run.phases_s[phase]) for phase in PHASES]
    cpu_s = median(s for run in runs for s in run.cpu_s)
    slowest_run, fastest_run = (f(median(run.step_s) for run in runs) for f in (max, min))
    return [
        name,
        *(f"{seconds:.3f}" for seconds in [*phases, step_s - sum(phases), step_s]),
        f"{fastest_run:.2f}-{slowest_run:.2f}",
        f"{cpu_s:.2f}",
        f"{tokens_per_step / step_s:,.0f}",
        f"{median(run.peak_bytes for run in runs) / 1e6:,.0f}",
    ]


def ratios(measured: dict[str, list[Measurement]]) -> list[str]:
    """Say how the contenders compare, beside the targets."""
    grpo, rlsd = (step_seconds(measured[name]) for name in OURS)
    lines = [
        _verdict(
            "RLSD / GRPO, both ours",
            rlsd / grpo,
            rlsd / grpo <= RLSD_TARGET,
            f"at most {RLSD_TARGET}",
        )
    ]
    if "GRPO, TRL" in measured:
        ratio = step_seconds(measured["GRPO, TRL"]) / grpo
        lines.append(
            _verdict("GRPO, TRL / ours", ratio, ratio >= TRL_TARGET, f"at least {TRL_TARGET}")
        )
    return lines


def _verdict(what: str, ratio: float, met: bool, target: str) -> str:
    return f"{what:24s} {ratio:.2f}   target: {target}, {'met' if met else 'MISSED'}"


def report(
    workload: Workload, measured: dict[str, list[Measurement]], absent: Sequence[str]
) -> str:
    """Return the table of one shape with its ratios."""
    tokens = next(iter(measured.values()))[0].step_tokens[0]
    prompt = tokens / (workload.problems * workload.group_size) - workload.completion_tokens
    header = ["seconds per step", *PHASES, "other", "step", "per run", "CPU", "tokens/s", "peak MB"]
    rows = [row(name, runs, workload.tokens_per_step) for name, runs in measured.items()]
    rows += [[f"{name}: not installed: pip install '.[peers]'"] for name in absent]
    steps = sum(len(run.step_s) for run in next(iter(measured.values())))
    return "\n".join(
        [
            f"P={workload.problems} G={workload.group_size} T={workload.completion_tokens}, images of "
            f"{workload.image_pixels} x {workload.image_pixels} pixels, prompts of {prompt:.0f} tokens; hidden size "
            f"{workload.hidden_size}, {workload.layers} layers; K={workload.micro_batches}; {workload.threads} threads, "
            f"float32; medians of {steps} steps",
            table(header, rows),
            *ratios(measured),
        ]
    )


def main() -> None:
    """Measure and print."""
    args = arguments(sys.argv[1:])
    has_trl = importlib.util.find_spec("trl") is not None
    contenders = [*OURS, "GRPO, TRL"] if has_trl and not args.quick else list(OURS)
    absent = [] if has_trl or args.quick else ["GRPO, TRL"]
    for image_pixels in args.image_pixels:
        workload = workload_of(args, image_pixels)
        print(
            report(workload, measure(workload, contenders, args.rounds), absent),
            end="\n\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
