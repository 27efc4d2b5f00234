"""Published numbers of GPUs, from NVIDIA's data sheets. Matrix rates are dense bfloat16, without sparsity."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One kind of GPU."""

    name: str
    memory_gib: float
    """The data sheet's "GB"; the driver shows it, or a little less, in GiB."""
    flops_per_s: float
    """Dense bfloat16 matrix products with float32 sums."""
    bytes_per_s: float
    """To and from its memory."""
    link_bytes_per_s: float
    """To the other GPUs of its node, one direction: half of the data sheet's NVLink or PCIe rate."""


GPUS = {
    # NVIDIA H200 data sheet (SXM): 141 GB, 1,979 TFLOPS with sparsity, 4.8 TB/s, NVLink 900 GB/s.
    "h200": Gpu(
        name="NVIDIA H200",
        memory_gib=141,
        flops_per_s=989e12,
        bytes_per_s=4.8e12,
        link_bytes_per_s=450e9,
    ),
    # NVIDIA H100 data sheet (SXM): 80 GB, 1,979 TFLOPS with sparsity, 3.35 TB/s, NVLink 900 GB/s.
    "h100": Gpu(
        name="NVIDIA H100",
        memory_gib=80,
        flops_per_s=989e12,
        bytes_per_s=3.35e12,
        link_bytes_per_s=450e9,
    ),
    # NVIDIA A100 data sheet (SXM, 80 GB): 312 TFLOPS, 2,039 GB/s, NVLink 600 GB/s.
    "a100_80gb": Gpu(
        name="NVIDIA A100 80GB",
        memory_gib=80,
        flops_per_s=312e12,
        bytes_per_s=2.039e12,
        link_bytes_per_s=300e9,
    ),
    # NVIDIA A100 data sheet (SXM, 40 GB): 312 TFLOPS, 1,555 GB/s, NVLink 600 GB/s.
    "a100_40gb": Gpu(
        name="NVIDIA A100 40GB",
        memory_gib=40,
        flops_per_s=312e12,
        bytes_per_s=1.555e12,
        link_bytes_per_s=300e9,
    ),
    # NVIDIA L40S data sheet: 48 GB, 362 TFLOPS, 864 GB/s, PCIe 4.0 x16, 64 GB/s both ways.
    "l40s": Gpu(
        name="NVIDIA L40S",
        memory_gib=48,
        flops_per_s=362e12,
        bytes_per_s=0.864e12,
        link_bytes_per_s=32e9,
    ),
}


def gpu_named(name: str) -> Gpu:
    """Return a GPU of the table.

    Raises:
        ValueError: it is not there.

    Example:
        >>> gpu_named("h200").memory_gib
        141
    """
    if name not in GPUS:
        raise ValueError(
            f"plan.gpu is {name!r}, of which no published numbers are known here. Needed: one of {', '.join(GPUS)}. "
            "Choose the nearest, or add yours to rlsd_lightning/planning/hardware.py."
        )
    return GPUS[name]
