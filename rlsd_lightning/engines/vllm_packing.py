"""Where a layer's new weights lie on a CPU until vLLM's kernels have packed them. Only vLLM imports this module.

vLLM asks the system for fresh memory for every layer, gathers the layer's weights there and lets oneDNN pack them into
an order of its own. That memory is cleared page by page when it is first touched, and oneDNN reads down its columns,
which lie a power of two apart: few places of the processor's cache serve all of them. So here all layers use one piece
of memory in turn, with rows an odd number of cache lines apart, and embeddings are written to where they stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from vllm import _custom_ops
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.utils import check_cpu_sgl_kernel
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.reload import layerwise as reloading
from vllm.platforms import current_platform

_CACHE_LINE = 64
"""Bytes."""


class PackingRoom:
    """One piece of memory for the weights of whichever layer is about to be packed; as large as the largest layer."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let vLLM's reloading put layers here; each is packed, or copied on, before the next one comes."""
        materialize = reloading.materialize_layer

        def place(layer: nn.Module, info: Any) -> None:
            weight = layer._parameters.get("weight")
            if weight is not None and weight.is_meta and info.kernel_tensors is not None:
                method = getattr(layer, "quant_method", None)
                if is_packed_by_onednn(method, weight):
                    layer.weight = like(weight, self._rows(weight))
                elif type(method) is UnquantizedEmbeddingMethod:
                    layer.weight = info.kernel_tensors[0]["weight"]
            materialize(layer, info)

        reloading.materialize_layer = place
        try:
            yield
        finally:
            reloading.materialize_layer = materialize

    def _rows(self, weight: Tensor) -> Tensor:
        """Return room for a matrix. [N, K]."""
        num_rows, num_columns = weight.shape
        distance = row_distance(num_columns * weight.itemsize)
        if num_rows * distance > len(self._memory):
            self._memory = torch.empty(num_rows * distance, dtype=torch.uint8)
        rows = self._memory[: num_rows * distance].view(weight.dtype).view(num_rows, -1)
        return rows[:, :num_columns]


def is_packed_by_onednn(method: Any, weight: Tensor) -> bool:
    """Return whether vLLM 0.32 packs a layer's weight by oneDNN, keeps nothing else, and takes rows that lie apart.

    Args:
        method: the layer's quant_method.
        weight: of the layer, as a checkpoint has it.
    """
    return (
        type(method) is UnquantizedLinearMethod
        and weight.ndim == 2
        and _custom_ops._supports_onednn
        and not current_platform.is_zen_cpu()
        and not check_cpu_sgl_kernel(*weight.shape, weight.dtype)
    )


def row_distance(num_bytes: int) -> int:
    """Return how far apart rows begin: at an odd number of cache lines.

    Args:
        num_bytes: of a row.

    Example:
        >>> [row_distance(n) // 64 for n in (1, 64, 128, 4096)]
        [1, 1, 3, 65]
    """
    lines = -(-num_bytes // _CACHE_LINE)
    return (lines + 1 - lines % 2) * _CACHE_LINE


def like(weight: Tensor, values: Tensor) -> Tensor:
    """Return values as the kind of parameter that a weight is, with its attributes.

    Args:
        weight: on the meta device.
        values: of the same shape.
    """
    values.__class__ = weight.__class__
    values.__dict__ = weight.__dict__.copy()
    return values
