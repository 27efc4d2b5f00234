"""Whether the GPUs that the trainer wants are there, free, and know its number format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlsd_lightning.doctor.finding import Finding

_GIB = 2**30
_MIN_FREE_FRACTION = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of this host."""

    name: str
    free_bytes: int
    total_bytes: int
    has_bfloat16: bool


def find_gpus() -> list[Gpu]:
    """Return the GPUs that torch can use here."""
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(
            Gpu(
                name=torch.cuda.get_device_name(index),
                free_bytes=free,
                total_bytes=total,
                has_bfloat16=torch.cuda.get_device_capability(index) >= (8, 0),
            )
        )
    return found


def check_gpus(found: Sequence[Gpu], trainer: dict[str, Any]) -> Finding:
    """Compare the GPUs of this host with the trainer's settings.

    Args:
        found: see find_gpus.
        trainer: the configuration's section: accelerator, devices, precision.
    """
    accelerator, devices = trainer["accelerator"], trainer["devices"]
    if accelerator == "cpu":
        return Finding(check="GPUs", level="ok", seen="trainer.accelerator is cpu: none asked for.")
    if not found:
        return Finding(
            check="GPUs",
            level="warning" if accelerator == "auto" else "fault",
            seen=f"torch {torch.__version__} finds none, and trainer.accelerator is {accelerator}.",
            advice="Choose trainer=cpu if that is meant; else install a CUDA build of torch and check nvidia-smi.",
        )
    names = sorted({gpu.name for gpu in found})
    free = min(gpu.free_bytes for gpu in found)
    seen = f"{len(found)} x {' and '.join(names)}, at least {free / _GIB:.1f} GiB free on each."
    if isinstance(devices, int) and devices > len(found):
        return Finding(
            check="GPUs",
            level="fault",
            seen=f"{seen} trainer.devices is {devices}.",
            advice=f"Set trainer.devices to at most {len(found)}.",
        )
    if "bf16" in str(trainer["precision"]) and not all(gpu.has_bfloat16 for gpu in found):
        return Finding(
            check="GPUs",
            level="fault",
            seen=f"{seen} trainer.precision is {trainer['precision']}, which these GPUs compute in software only.",
            advice="Set trainer.precision=32-true, or take a GPU of compute capability 8.0 or newer.",
        )
    if any(gpu.free_bytes < _MIN_FREE_FRACTION * gpu.total_bytes for gpu in found):
        return Finding(
            check="GPUs",
            level="warning",
            seen=f"{seen} Another process holds memory of one.",
            advice="nvidia-smi names it; end it, or choose other GPUs with CUDA_VISIBLE_DEVICES.",
        )
    return Finding(check="GPUs", level="ok", seen=seen)
