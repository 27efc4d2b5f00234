"""Keys and values of prompts and of the branches that grow from them."""

from __future__ import annotations

import torch
from torch import Tensor


class BranchCache:
    """Keys and values per layer, in buffers that grow by doubling; what transformers' attention calls `update` on.

    A row holds one prompt, once, and then step by step one token of each of its branches.
    """

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._lengths: list[int] = []

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append one forward pass's keys and values of a layer and return all so far.

        Args:
            keys: [R, heads, new, head_dim]
            values: [R, heads, new, head_dim]
            layer: its index; layers come in order.

        Returns:
            Keys and values. [R, heads, length, head_dim] each
        """
        if layer == len(self._keys):
            self._keys.append(keys)
            self._values.append(values)
            self._lengths.append(keys.shape[2])
            return keys, values
        start, end = self._lengths[layer], self._lengths[layer] + keys.shape[2]
        self._keys[layer] = _grown(self._keys[layer], start, end)
        self._values[layer] = _grown(self._values[layer], start, end)
        self._keys[layer][:, :, start:end] = keys
        self._values[layer][:, :, start:end] = values
        self._lengths[layer] = end
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def get_seq_length(self, layer: int = 0) -> int:
        """Count the tokens so far, padding included."""
        return self._lengths[layer] if self._lengths else 0

    def keep_rows(self, rows: Tensor) -> None:
        """Forget all rows but these. int64 [kept]."""
        self._keys = [keys[rows] for keys in self._keys]
        self._values = [values[rows] for values in self._values]


def _grown(buffer: Tensor, used: int, needed: int) -> Tensor:
    if needed <= buffer.shape[2]:
        return buffer
    larger = buffer.new_empty(*buffer.shape[:2], max(needed, 2 * buffer.shape[2]), buffer.shape[3])
    larger[:, :, :used] = buffer[:, :, :used]
    return larger


def branch_visibility(prompt_mask: Tensor, group_size: int, num_steps: int) -> Tensor:
    """Say what the token of each branch sees in a BranchCache after `num_steps` steps, its own included.

    Args:
        prompt_mask: True = a prompt token, False = padding. bool [R, S]
        group_size: G, branches per row.
        num_steps: tokens per branch.

    Returns:
        bool [R, 1, G, S + num_steps * G]

    Example:
        >>> branch_visibility(torch.tensor([[True, True]]), group_size=2, num_steps=2)[0, 0].int()
        tensor([[1, 1, 1, 0, 1, 0],
                [1, 1, 0, 1, 0, 1]], dtype=torch.int32)
    """
    rows, length = prompt_mask.shape
    own = torch.eye(group_size, dtype=torch.bool, device=prompt_mask.device).repeat(1, num_steps)
    prompt = prompt_mask[:, None, None, :].expand(rows, 1, group_size, length)
    return torch.cat([prompt, own.expand(rows, 1, -1, -1)], dim=-1)
