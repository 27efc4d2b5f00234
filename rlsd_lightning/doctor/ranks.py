"""Whether the launched ranks reach each other, add up right, and were started with the same settings."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from rlsd_lightning.doctor.finding import Finding
from rlsd_lightning.same_settings import difference_between_ranks

TIMEOUT = timedelta(seconds=30)
_NUM_VALUES = 4 << 20
"""Of the tensor that is added up: 16 MiB."""


def launched() -> SLURMEnvironment | TorchElasticEnvironment | None:
    """Return who started this process as one of several ranks; None if nobody did."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            return kind()
    return None


@contextmanager
def process_group(backend: str) -> Iterator[None]:
    """Form a group of the launched ranks; nothing in a process that was started alone."""
    launcher = launched()
    if launcher is None:
        yield
        return
    os.environ.update(MASTER_ADDR=launcher.main_address, MASTER_PORT=str(launcher.main_port))
    if backend == "nccl":
        torch.cuda.set_device(launcher.local_rank())
    torch.distributed.init_process_group(
        backend,
        rank=launcher.global_rank(),
        world_size=launcher.world_size(),
        timeout=TIMEOUT,
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def check_all_reduce(num_wanted: int) -> Finding:
    """Add a tensor up over all ranks, and compare the sum with what it must be.

    Args:
        num_wanted: processes that the configuration asks for.
    """
    if not torch.distributed.is_initialized():
        if num_wanted == 1:
            return Finding(check="ranks", level="ok", seen="one process, with nobody to reach.")
        return Finding(
            check="ranks",
            level="warning",
            seen=f"one process, but the configuration asks for {num_wanted}, whose connections were not tried.",
            advice="Start doctor as you start fit: by torchrun, or by srun.",
        )
    backend, rank = torch.distributed.get_backend(), torch.distributed.get_rank()
    num_ranks = torch.distributed.get_world_size()
    device = "cuda" if backend == "nccl" else "cpu"
    torch.distributed.barrier()
    started = time.perf_counter()
    values = torch.full((_NUM_VALUES,), float(rank + 1), device=device)
    torch.distributed.all_reduce(values)
    wanted, (low, high) = num_ranks * (num_ranks + 1) / 2, torch.aminmax(values)
    seconds = time.perf_counter() - started
    hosts: list[Any] = [None] * num_ranks
    torch.distributed.all_gather_object(hosts, socket.gethostname())
    num_hosts = len(set(hosts))
    over = f"{backend} over {num_ranks} ranks on {num_hosts} host{'' if num_hosts == 1 else 's'}"
    if not float(low) == float(high) == wanted:
        return Finding(
            check="ranks",
            level="fault",
            seen=f"{over} adds up to {float(low)} to {float(high)} instead of {wanted}.",
            advice="Compare drivers and NCCL between the hosts; NCCL_DEBUG=INFO says which way it takes.",
        )
    return Finding(
        check="ranks",
        level="ok",
        seen=f"{over} adds 16 MiB up right, in {1000 * seconds:.0f} ms.",
    )


def check_settings(settings: Mapping[str, Any]) -> Finding:
    """Compare the settings of all ranks.

    Args:
        settings: of this rank, by full name.
    """
    if not torch.distributed.is_initialized():
        return Finding(check="settings", level="ok", seen=f"{len(settings)} settings, no fault.")
    found = difference_between_ranks(settings)
    if found:
        return Finding(check="settings", level="fault", seen=found)
    return Finding(
        check="settings", level="ok", seen=f"{len(settings)} settings, the same on all ranks."
    )
