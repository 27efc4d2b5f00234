"""vLLM inside the trainer's process: what creating, running and closing it would change there, and is put back.

Each point was seen with vLLM 0.32: creating an LLM seeds all global generators, overwrites LOCAL_WORLD_SIZE, takes
torch.set_num_threads away and freezes the garbage collector; a step draws from torch's generator; taking an LLM down
destroys the default process group, which is the trainer's.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def same_random_state() -> Iterator[None]:
    """Leave the generators of Python, NumPy and torch as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def same_process() -> Iterator[None]:
    """Create an engine inside: the process is afterwards as it was before, but for vLLM's own variables (VLLM_...).

    The engine must find the ranks' numbers in the environment, however they were started.
    """
    before = dict(os.environ)
    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the trainer's threads are these
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if torch.distributed.is_initialized():
        os.environ["RANK"] = str(torch.distributed.get_rank())
        os.environ["WORLD_SIZE"] = str(torch.distributed.get_world_size())
        os.environ.setdefault("LOCAL_RANK", "0")
    with same_random_state():
        try:
            yield
        finally:
            for name in {*before, *os.environ}:
                if name in before:
                    os.environ[name] = before[name]
                elif not name.startswith("VLLM_"):
                    del os.environ[name]
            torch.set_num_threads = set_num_threads
            torch.set_num_threads(num_threads)
            gc.unfreeze()


def inspect_models_here() -> None:
    """Have vLLM look at a model's class in this process, where the package has made torchvision usable.

    vLLM does so in a fresh one, to leave CUDA alone here; without CUDA that costs 7 s and fails beside a torchvision
    that does not fit.
    """
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda inspect: inspect()


@contextmanager
def keeping_process_group() -> Iterator[None]:
    """Take an engine down inside: only vLLM's own groups of processes are destroyed."""
    from vllm import envs
    from vllm.distributed import parallel_state
    from vllm.v1.engine import core

    def clean_up(shutdown_ray: bool = False) -> None:
        envs.disable_envs_cache()
        gc.unfreeze()
        parallel_state.destroy_model_parallel()
        if parallel_state._WORLD is not None:
            parallel_state._WORLD.destroy()
        parallel_state._WORLD = parallel_state._NODE_COUNT = None
        gc.collect()

    everything = core.cleanup_dist_env_and_memory
    core.cleanup_dist_env_and_memory = clean_up
    try:
        yield
    finally:
        core.cleanup_dist_env_and_memory = everything
