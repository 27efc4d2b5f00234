"""One model of sync.py, in a process of its own: the policy, the engine, and a copy of the weights."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rlsd_lightning  # noqa: F401  first: makes torchvision importable beside a CPU build of torch

# isort: split
import torch
from random_model import Shape, write_text_model
from step_process import memory_bytes

from rlsd_lightning.engines.vllm_engine import VLLMEngine
from rlsd_lightning.models import load_policy, load_reader
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.types import Sampling
from rlsd_lightning.weight_check import fixed_prompts, logprob_gap
from rlsd_lightning.weights import named_weights

MAX_MODEL_LEN = 512
CHECKED_TOKENS = 4
"""As callbacks.weight_sync samples."""


class Stopwatch:
    """The best of several rounds of one piece of work, by the clock and in processor time."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.wall_s = self.cpu_s = float("inf")

    def run(self) -> Any:
        """Do it once."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = self._work()
        self.wall_s = min(self.wall_s, time.perf_counter() - wall)
        self.cpu_s = min(self.cpu_s, time.process_time() - cpu)
        return result

    def as_json(self) -> dict[str, float]:
        """Return both."""
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s}


def extra_bytes(work: Callable[[], Any]) -> int:
    """Return the most memory that a piece of work takes beside what is held before it."""
    ctypes.CDLL(None).malloc_trim(0)  # glibc: give back what was freed, or it would be used unseen
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest memory so far (Linux)
    before = memory_bytes()
    work()
    return max(0, memory_bytes(peak=True) - before)


def main() -> None:
    """Read folder, shape, dtype, threads and rounds from the command line; leave result.json in the folder."""
    folder, dtype = Path(sys.argv[1]), sys.argv[3]
    threads, rounds = int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(threads)
    path = str(folder / "model")
    write_text_model(Shape.of(sys.argv[2]), folder / "model", dtype, uneven=False)
    policy = load_policy(path, dtype=dtype)
    processor, family = load_reader(path)
    template = PromptTemplate(
        student="{{ problem.prompt }}", teacher="{{ student }}{{ reference }}"
    )
    prompts = fixed_prompts(PromptEncoder(processor, template, family))
    engine = VLLMEngine(
        path, dtype=dtype, temperature=1.0, max_model_len=MAX_MODEL_LEN, kv_cache_gb=0.3
    )
    engine.bind(policy, processor)
    engine.start()
    torch.set_num_threads(threads)
    weights = [weight.detach() for weight in policy.parameters()]
    places = [torch.ones_like(weight) for weight in weights]
    sampling = Sampling(max_completion_tokens=CHECKED_TOKENS)

    def copy_all() -> None:
        for place, weight in zip(places, weights, strict=True):
            place.copy_(weight)

    def sync() -> None:
        engine.load_weights(named_weights(policy), 0)

    def reload() -> None:
        engine._llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": named_weights(policy)}
        )

    copying, syncing, reloading = Stopwatch(copy_all), Stopwatch(sync), Stopwatch(reload)
    checking = Stopwatch(lambda: logprob_gap(policy, engine, prompts, sampling).max().item())
    for watch in (copying, syncing, reloading):
        watch.run()
    extra = extra_bytes(sync)
    for _ in range(rounds):
        for watch in (copying, reloading, syncing):
            watch.run()
        gap = checking.run()
    result = {
        "num_weights": sum(weight.numel() for weight in weights),
        "copy": copying.as_json(),
        "sync": syncing.as_json(),
        "reload": reloading.as_json(),
        "check": checking.as_json(),
        "extra_bytes": extra,
        "gap": gap,
    }
    (folder / "result.json").write_text(json.dumps(result))
    engine.close()


if __name__ == "__main__":
    main()
