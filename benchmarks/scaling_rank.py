"""One rank of scaling.py: trains under a strategy, then streams all weights out of it, and reports from rank zero."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import lightning
import torch
from lightning.pytorch.callbacks import Callback
from step_ours import compose_run, train
from step_process import StepClock, memory_bytes, read_workload

from rlsd_lightning.weights import named_weights

BUCKET_BYTES = 8 << 20


class WeightStream(Callback):
    """When training ends, takes all whole weights once, as an engine in another process would."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.extra_bytes = 0

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Time it, and see how much memory it takes beside what is there."""
        trainer.strategy.barrier()
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest memory so far (Linux)
        before, started = memory_bytes(), time.perf_counter()
        for _, weight in named_weights(pl_module.policy, BUCKET_BYTES):
            weight.flatten()[0].item()
        trainer.strategy.barrier()
        self.seconds = time.perf_counter() - started
        self.extra_bytes = max(0, memory_bytes(peak=True) - before)


def main() -> None:
    """Read the workload's folder, the result's path and overrides from the command line."""
    folder, result, *overrides = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    workload = read_workload(folder / "workload.json")
    torch.set_num_threads(workload.threads)
    cfg = compose_run(workload, folder, "rlsd", overrides)
    before = memory_bytes()
    clock, stream = StepClock(workload.warmup_steps), WeightStream()
    trainer, _ = train(cfg, clock, stream)
    if trainer.is_global_zero:
        measured = {
            "step_s": median(clock.measurement.step_s),
            "cpu_s": median(clock.measurement.cpu_s),
            "held_bytes": memory_bytes() - before,
            "stream_s": stream.seconds,
            "stream_bytes": stream.extra_bytes,
        }
        result.write_text(json.dumps(measured))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
