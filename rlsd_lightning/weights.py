"""The policy's weights by their Hugging Face names: what engines, teachers and exports take over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rlsd_lightning.models import Policy


def named_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) of every weight, a tied one once, in a fixed order.

    Args:
        policy: under one process or DDP, where every rank holds whole weights.
    """
    for name, parameter in policy.model.named_parameters():
        yield name, parameter.detach()


@torch.no_grad()
def load_named_weights(policy: Policy, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Copy weights into `policy` in place.

    Raises:
        ValueError: a name is unknown, a shape differs, or a weight of the policy was not given.
    """
    targets = dict(policy.model.named_parameters())
    missing = set(targets)
    for name, tensor in named_tensors:
        if name not in targets:
            raise ValueError(f"weights: {name!r} is not a weight of {type(policy.model).__name__}.")
        if targets[name].shape != tensor.shape:
            raise ValueError(
                f"weights: {name!r} has shape {list(tensor.shape)}; the model's has {list(targets[name].shape)}."
            )
        targets[name].copy_(tensor)
        missing.discard(name)
    if missing:
        raise ValueError(
            f"weights: {len(missing)} weights were not given, the first is {min(missing)!r}; "
            "the model would be half old, half new."
        )
