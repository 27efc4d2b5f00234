"""Counts the bytes of tensors that are alive, while operations run: what an accelerator's allocator would hold.

Bytes belong to storages, so views cost nothing; a storage counts from the operation that returns it until Python or
autograd drops the last tensor on it. What an operation allocates and frees within itself is not seen.
"""

import weakref
from collections.abc import Iterable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """Tracks current and peak bytes of the given tensors and of all that operations make meanwhile."""

    def __init__(self, before: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._seen: dict[int, weakref.finalize] = {}
        for tensor in before:
            self._count(tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._count(value)
        self.peak = max(self.peak, self.current)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._seen:
            return
        size = storage.nbytes()
        self.current += size
        self._seen[key] = weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.current -= size
