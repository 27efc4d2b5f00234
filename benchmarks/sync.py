"""Times a sync of weights with the vLLM engine beside copying the same bytes once, for models of several sizes.

    python benchmarks/sync.py                                   about 1, 10, 100 and 500 M weights, in both types
    python benchmarks/sync.py --shapes 1024x8 --dtypes float32 --threads 1
    python benchmarks/sync.py --keep-freed-memory               the allocator gives nothing back to the system

A sync is engine.load_weights(named_weights(policy)), whole: every weight looked at, handed over, packed for vLLM's kernels,
caches emptied. The copy is copy_ of all weights into memory that is there and touched. Both take turns, with the same
threads; each number is the best of the rounds, as others use the machine, too.

    copy s, sync s    by the clock.
    ratio             sync s / copy s.
    CPU ratio         the same of processor time, which other programs change less.
    vLLM's own s      collective_rpc("reload_weights"), which looks at nothing.
    check s           the probe of log-probs that follows a sync in training.
    extra MiB         the most memory that a sync took beside what was held before.
    gap               largest difference of log-probs between engine and policy afterwards, in nats.

Each line comes from a process of its own. Needs vLLM and Linux.
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
from typing import Any

from _table import table

HERE = Path(__file__).parent
SHAPES = ("128x4", "384x6", "1024x8", "1536x20")
HEADER = (
    *("shape", "M weights", "type", "copy s", "sync s", "ratio", "CPU ratio", "vLLM's own s"),
    *("check s", "extra MiB", "gap"),
)
KEEP_FREED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 40), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""glibc's own variables (man mallopt): memory that is freed stays with the process."""
MIB = 1 << 20


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="hidden size x layers")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--keep-freed-memory", action="store_true", help=KEEP_FREED.__doc__)
    return parser.parse_args(words)


def measure(args: argparse.Namespace, shape: str, dtype: str) -> dict[str, Any]:
    """Measure one model in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        settings = [shape, dtype, str(args.threads), str(args.rounds)]
        more = KEEP_FREED if args.keep_freed_memory else {}
        done = subprocess.run(
            [sys.executable, str(HERE / "sync_run.py"), name, *settings],
            env=os.environ | {"OMP_NUM_THREADS": str(args.threads)} | more,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{shape} in {dtype}:\n{done.stderr}")
        return json.loads((Path(name) / "result.json").read_text())


def row(shape: str, dtype: str, measured: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    copied, synced = measured["copy"], measured["sync"]
    return [
        shape,
        f"{measured['num_weights'] / 1e6:.1f}",
        dtype,
        f"{copied['wall_s']:.4f}",
        f"{synced['wall_s']:.4f}",
        f"{synced['wall_s'] / copied['wall_s']:.1f}",
        f"{synced['cpu_s'] / copied['cpu_s']:.1f}",
        f"{measured['reload']['wall_s']:.4f}",
        f"{measured['check']['wall_s']:.3f}",
        f"{measured['extra_bytes'] / MIB:.0f}",
        f"{measured['gap']:.1g}",
    ]


def main(words: Sequence[str]) -> None:
    """Measure what the command line asks for and print the table."""
    args = arguments(words)
    rows = [row(s, d, measure(args, s, d)) for s in args.shapes for d in args.dtypes]
    print(f"{args.threads} threads on both sides, best of {args.rounds} rounds")
    print(table(HEADER, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
