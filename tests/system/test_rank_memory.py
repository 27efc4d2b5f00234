"""What a rank keeps under each strategy, against the plan."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlsd_lightning.planning.memory import weight_state_bytes
from rlsd_lightning.planning.setup import Parallel, read_precision
from tests.helpers.workplace import SMALL

ROOT = Path(__file__).parents[2]
SLACK = 2.5
"""Bytes per weight of a model this small that belong to batches, records and images."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero1", "zero2", "zero3", "fsdp2"])
def test_two_ranks_keep_what_is_planned(workplace, kind):
    found = workplace / f"{kind}.json"
    callback = f"{{_target_: tests.helpers.rank_memory.RankMemory, path: {found}, micro_batch: 4}}"
    words = [
        *SMALL,
        f"trainer={kind if kind == 'fsdp2' else f'deepspeed_{kind}'}",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.precision=bf16-mixed",
        "evaluators=none",
        f"paths.runs=memory_{kind}",
        f"+callbacks.rank_memory={callback}",
    ]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "rlsd_lightning", "fit", *words],
        cwd=workplace,
        env=os.environ
        | {"PYTHONPATH": f"{workplace}:{ROOT}", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    kept = json.loads(found.read_text())
    size = kept["weights"]
    precision, parallel = (
        read_precision("bf16-mixed", "float32", kind),
        Parallel(kind=kind, gpus_per_node=2),
    )
    parts = weight_state_bytes(size, size, precision, parallel)
    if kind != "zero3":
        parts["buffers"] = 0.0  # made for a backward pass; this is after one
    teacher = size * precision.stored / parallel.weight_shards
    planned = sum(parts.values()) + teacher
    assert planned <= kept["bytes"] <= planned + SLACK * size
