"""The policy's weights by their Hugging Face names: what engines, teachers and exports take over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rlsd_lightning.models import Policy

BUCKET_BYTES = 1 << 30
"""How much is gathered at a time, unless one weight alone is larger."""


def named_weights(policy: Policy, bucket_bytes: int = BUCKET_BYTES) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, whole tensor) of every weight, a tied one once, in a fixed order. Collective.

    However the strategy keeps the weights among the ranks, every rank gets all of them, and must take all of them: what
    is sharded is gathered bucket by bucket. A tensor is good until the next one is asked for.

    Args:
        policy: under any strategy.
        bucket_bytes: the extra memory that this may take.
    """
    policy.placement.release(policy)
    for names, weights in _buckets(policy, bucket_bytes):
        with policy.placement.gathered(weights) as whole:
            yield from zip(names, whole, strict=True)


def _buckets(
    policy: Policy, bucket_bytes: int
) -> Iterator[tuple[list[str], list[torch.nn.Parameter]]]:
    """Cut the weights into runs of at most `bucket_bytes`, or of one weight."""
    names: list[str] = []
    weights: list[torch.nn.Parameter] = []
    num_bytes = 0
    for name, weight in policy.model.named_parameters():
        size = policy.placement.shape(weight).numel() * weight.element_size()
        if weights and num_bytes + size > bucket_bytes:
            yield names, weights
            names, weights, num_bytes = [], [], 0
        names.append(name)
        weights.append(weight)
        num_bytes += size
    if weights:
        yield names, weights


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
