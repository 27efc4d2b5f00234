"""Runs a function in several processes that form a group, as ranks of a run do."""

import gc
import multiprocessing
import os
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def without_garbage():
    """Fork inside: a child that collects a process group of its parent's would wait for threads that it does not have."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run_ranks(function, world_size):
    """Call function(rank) in `world_size` forked processes with a gloo group; return what they returned, by rank.

    Forked, so that nothing is imported again: the function must not run a backward pass.
    """
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        processes = [
            context.Process(target=_run, args=(function, rank, world_size, store, queue))
            for rank in range(world_size)
        ]
        with without_garbage():
            for process in processes:
                process.start()
        results = dict(queue.get() for _ in processes)
        for process in processes:
            process.join()
    failures = [result for result in results.values() if isinstance(result, Failure)]
    assert not failures, "\n".join(failures)
    return [results[rank] for rank in range(world_size)]


def run_under_torchrun(function, world_size=2):
    """Call function(rank) on ranks that find the store of torchrun's agent, each as in a fresh process."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def as_rank(rank):
        os.environ.update(
            TORCHELASTIC_RUN_ID="none",
            TORCHELASTIC_USE_AGENT_STORE="True",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(store.port),
            WORLD_SIZE=str(world_size),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
        )
        os.environ.pop("RLSD_RUN_DIR", None)
        return function(rank)

    return run_ranks(as_rank, world_size)


class Failure(str):
    """The traceback of a rank."""

    __slots__ = ()


def _run(function, rank, world_size, store, queue):
    torch.set_num_threads(1)
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size
        )
        result = function(rank)
        torch.distributed.destroy_process_group()
    except BaseException:  # a rank that dies in silence would hang the test
        result = Failure(traceback.format_exc())
    queue.put((rank, result))
