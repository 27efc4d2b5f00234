"""Times a step of RLSD under every strategy on 1, 2 and 4 processes, with the same work for each process.

    python benchmarks/scaling.py                     every strategy
    python benchmarks/scaling.py --strategies ddp deepspeed_zero3 --ranks 1 2

Perfect scaling leaves a step's seconds as they are while ranks are added. Here all ranks share one machine's cores, so
seconds grow with the ranks once these outnumber the cores; processor seconds of a rank say what the strategy itself costs.
Held is the memory of rank zero beyond what its libraries take; stream is one pass over all whole weights, as a sync
with an engine makes, in buckets of 8 MiB, and what it takes beside what is held.
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
STRATEGIES = ("ddp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", "fsdp2")
HEADER = ("strategy", "ranks", "step s", "cpu s", "tokens/s", "held MiB", "stream s", "extra MiB")
MIB = 1 << 20


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--problems", type=int, default=2, help="of each rank, per step")
    parser.add_argument("--group-size", type=int, default=4, help="G, completions per prompt")
    parser.add_argument("--completion-tokens", type=int, default=16, help="T, of every completion")
    parser.add_argument("--hidden-size", type=int, default=384, help="of the language model")
    parser.add_argument("--layers", type=int, default=6, help="of the language model")
    parser.add_argument("--timed-steps", type=int, default=3)
    return parser.parse_args(words)


def workload_of(args: argparse.Namespace, ranks: int) -> Workload:
    """Return the step's shape: every rank has the same work, whatever their number."""
    return Workload(
        problems=args.problems * ranks,
        group_size=args.group_size,
        completion_tokens=args.completion_tokens,
        image_pixels=48,
        reference_characters=24,
        hidden_size=args.hidden_size,
        layers=args.layers,
        micro_batches=1,
        threads=1,
        warmup_steps=1,
        timed_steps=args.timed_steps,
    )


def measure(workload: Workload, strategy: str, ranks: int) -> dict[str, float]:
    """Run the ranks in fresh processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_workload(workload, folder)
        (folder / "workload.json").write_text(json.dumps(asdict(workload)))
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        overrides = [
            f"trainer={strategy}",
            "trainer.accelerator=cpu",
            "trainer.precision=32-true",
            f"trainer.devices={ranks}",
            "exp_manager.version=measured",
        ]
        done = subprocess.run(
            [
                *(sys.executable, *torchrun, str(HERE / "scaling_rank.py")),
                *(str(folder), str(folder / "result.json"), *overrides),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{strategy} on {ranks} ranks:\n{done.stderr}")
        return json.loads((folder / "result.json").read_text())


def row(strategy: str, ranks: int, workload: Workload, measured: dict[str, float]) -> list[str]:
    """Return a line of the table."""
    return [
        strategy,
        str(ranks),
        f"{measured['step_s']:.2f}",
        f"{measured['cpu_s']:.2f}",
        f"{workload.tokens_per_step / measured['step_s']:,.0f}",
        f"{measured['held_bytes'] / MIB:.0f}",
        f"{measured['stream_s']:.3f}",
        f"{measured['stream_bytes'] / MIB:.1f}",
    ]


def main(words: Sequence[str]) -> None:
    """Measure what the command line asks for and print the table."""
    args = arguments(words)
    rows = []
    for strategy in args.strategies:
        for ranks in args.ranks:
            workload = workload_of(args, ranks)
            rows.append(row(strategy, ranks, workload, measure(workload, strategy, ranks)))
    print(table(HEADER, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
