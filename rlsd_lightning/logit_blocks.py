"""Logits without the [N, V] tensor: the pieces that everything over the vocabulary is computed from.

Logits are made from hidden states, used and forgotten block by block; what is summed over blocks is summed in at least
float32. Nothing here knows what the logits are for: see logprobs.py and divergence.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_ROWS = 8192
BLOCK_ELEMENTS = {"cpu": 2**23, "cuda": 2**26}
"""Logits per block: on a CPU about what its cache holds, on a GPU what keeps its cores busy."""
MIN_BLOCK_COLUMNS = 1024


def logit_blocks(
    hidden: Tensor, weight: Tensor, temperature: float
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield the logits in blocks: rows, columns, those rows of weight, logits / T in at least float32.

    The logits live in one buffer: they are valid, and free to be overwritten, until the next block. Vocabulary
    blocks are the outer loop, so that each piece of weight is cast, and its gradient written, once.
    """
    num_rows = max(1, min(len(hidden), BLOCK_ROWS))
    num_columns = min(
        len(weight), max(block_elements(hidden.device) // num_rows, MIN_BLOCK_COLUMNS)
    )
    product = hidden.new_empty(num_rows * num_columns)
    wide = product.to(wide_dtype(hidden.dtype))
    for columns in slices(len(weight), num_columns):
        block = weight[columns].to(hidden.dtype)
        for rows in slices(len(hidden), num_rows):
            shape = (rows.stop - rows.start, len(block))
            size = shape[0] * shape[1]
            logits = torch.mm(hidden[rows], block.T, out=product[:size].view(shape))
            if wide is not product:
                logits = wide[:size].view(shape).copy_(logits)
            if temperature != 1:
                # Here and not on hidden: in bfloat16 a scaled hidden state would be rounded once more.
                logits.div_(temperature)
            yield rows, columns, block, logits


def block_elements(device: torch.device) -> int:
    """Return how many logits a block holds on this device."""
    return BLOCK_ELEMENTS["cpu" if device.type == "cpu" else "cuda"]


def slices(length: int, size: int) -> Iterator[slice]:
    """Cut range(length) into slices of at most `size`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def write_product(target: Tensor, left: Tensor, right: Tensor, *, add: bool) -> None:
    """Write left @ right to target, or add it; a wider target keeps the sum of several exact."""
    if target.dtype == left.dtype:
        target.addmm_(left, right, beta=int(add))
    elif add:
        target.add_(left @ right)
    else:
        target.copy_(left @ right)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums are carried in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def matmul_dtype(hidden: Tensor) -> torch.dtype:
    """Return the dtype a matmul of hidden would have here, autocast included."""
    return torch.get_autocast_dtype(hidden.device.type) if autocasts(hidden) else hidden.dtype


def autocasts(hidden: Tensor) -> bool:
    """Whether a matmul of hidden would be cast here; autocast leaves float64 alone."""
    return hidden.dtype != torch.float64 and torch.is_autocast_enabled(hidden.device.type)
