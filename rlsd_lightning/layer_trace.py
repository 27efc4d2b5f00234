"""What came out of each layer, in two numbers: enough to find the first one in which two copies of a model differ.

One of the copies may be in another process, name its modules otherwise, add the residual elsewhere and run a prompt in
several pieces: so both numbers are sums over all tokens, and what is compared is the value behind the residual.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_LAYERS = re.compile(
    r"(^|\.)(layers\.\d+|visual\.(blocks\.\d+\.mlp|deepstack_merger_list\.\d+|merger))$"
)
"""Not the blocks of a vision tower themselves: vLLM calls them past the hooks."""


class LayerTrace:
    """Watches the layers of a model until `end`.

    Args:
        model: a decoder, with or without a vision tower.
        rename: from the model's own names of modules to Hugging Face's.
    """

    def __init__(self, model: nn.Module, rename: Callable[[str], str] = str) -> None:
        self._sums: dict[str, Tensor] = {}
        self._hooks = [
            module.register_forward_hook(self._watcher(rename(name)))
            for name, module in model.named_modules()
            if _LAYERS.search(name)
        ]

    def end(self) -> dict[str, tuple[float, ...]]:
        """Stop watching; return two numbers per layer that ran, in the order of computation."""
        for hook in self._hooks:
            hook.remove()
        return {name: tuple(sums.tolist()) for name, sums in self._sums.items()}

    def _watcher(self, name: str) -> Callable[..., None]:
        def watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._sums[name] = self._sums.get(name, 0) + describe(output)

        return watch


@torch.no_grad()
def describe(output: Tensor | tuple[Any, ...]) -> Tensor:
    """Return the sum of absolute values over all tokens, and a sum in which features weigh differently. float64 [2].

    Args:
        output: of a layer: [..., H], or a tuple with it first; vLLM's decoder layers return the residual beside it.
    """
    if isinstance(output, tuple):
        tensors = [part for part in output[:2] if isinstance(part, Tensor)]
        same = [part for part in tensors if part.shape == tensors[0].shape]
        output = torch.stack([part.double() for part in same]).sum(0)
    values = output.double().flatten(0, -2)
    weights = torch.arange(values.shape[1], device=values.device, dtype=torch.float64).cos()
    return torch.stack([values.abs().sum(), (values @ weights).sum()]).cpu()


def first_difference(
    ours: Mapping[str, tuple[float, ...]], theirs: Mapping[str, tuple[float, ...]], relative: float
) -> str | None:
    """Return the first layer, in the order of `ours`, whose numbers differ; None if none does.

    Args:
        ours: of one model, by layer.
        theirs: of the other; layers that only one of them has are left out.
        relative: how much they may differ, as a share of the sum of absolute values.

    Example:
        >>> ours = {"layers.0": (10.0, 1.0), "layers.1": (20.0, 2.0)}
        >>> first_difference(ours, {"layers.0": (10.0, 1.0), "layers.1": (20.0, 2.5)}, relative=1e-2)
        'layers.1'
    """
    for name in ours:
        if name not in theirs:
            continue
        scale = max(abs(ours[name][0]), abs(theirs[name][0]))
        gaps = [abs(a - b) for a, b in zip(ours[name], theirs[name], strict=True)]
        if not all(gap <= relative * scale for gap in gaps):  # not so for a nan, either
            return name
    return None
