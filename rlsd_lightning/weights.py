"""The policy's weights by their Hugging Face names: what engines, teachers and exports take over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.models import Policy, adapters, quantised

BUCKET_BYTES = 1 << 30
"""How much is gathered at a time, unless one weight alone is larger."""


@torch.no_grad()
def named_weights(policy: Policy, bucket_bytes: int = BUCKET_BYTES) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, whole tensor) of every weight, a tied one once, in a fixed order. Collective.

    However the strategy keeps the weights among the ranks, every rank gets all of them, and must take all of them: what
    is sharded is gathered bucket by bucket. LoRA's adapters are merged: W + (alpha / rank) B A. A tensor is the weight
    itself, or a copy that is good for as long as it is held.

    Args:
        policy: under any strategy.
        bucket_bytes: the extra memory that this may take.
    """
    policy.placement.release(policy)
    for bucket in _buckets(policy, bucket_bytes):
        members = [weight for _, weight, layer in bucket for weight in (weight, *_factors(layer))]
        with policy.placement.gathered(members) as gathered:
            whole = iter(gathered)
            for name, parameter, layer in bucket:
                weight = next(whole)
                if weight.dtype == torch.uint8:
                    weight = quantised.dequantised(weight, parameter)
                if layer is not None:
                    scaling = layer.scaling[adapters.POLICY]
                    a, b = next(whole), next(whole)
                    weight = (weight + scaling * (b @ a)).to(weight.dtype)
                yield name, weight


def _factors(layer: Any | None) -> list[torch.nn.Parameter]:
    """Return A and B of a weight's adapter."""
    if layer is None:
        return []
    return [layer.lora_A[adapters.POLICY].weight, layer.lora_B[adapters.POLICY].weight]


def _buckets(
    policy: Policy, bucket_bytes: int
) -> Iterator[list[tuple[str, torch.nn.Parameter, Any | None]]]:
    """Cut the weights into runs of at most `bucket_bytes`, or of one weight."""
    bucket: list[tuple[str, torch.nn.Parameter, Any | None]] = []
    num_bytes = 0
    for name, weight, layer in adapters.merged_names(policy.model):
        size = policy.placement.shape(weight).numel() * weight.element_size()
        if bucket and num_bytes + size > bucket_bytes:
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append((name, weight, layer))
        num_bytes += size
    if bucket:
        yield bucket


def weight_names(policy: Policy) -> list[str]:
    """Return the names that `named_weights` yields; nothing is gathered."""
    return [name for name, _, _ in adapters.merged_names(policy.model)]


def tied_names(policy: Policy) -> dict[str, list[str]]:
    """Return the other names under which weights that `named_weights` yields once appear in the model, by their first name.

    Args:
        policy: before a strategy has cut it up.
    """
    names: dict[int, list[str]] = {}
    for name, weight in policy.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    return {first: others for first, *others in names.values() if others}


def with_tied(
    named_tensors: Iterable[tuple[str, Tensor]], tied: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Tensor]]:
    """Yield weights, each tied one under all of its names: vLLM keeps the output embedding in a form of its own.

    Args:
        named_tensors: see named_weights.
        tied: see tied_names.

    Example:
        >>> list(with_tied([("embed", 1), ("norm", 2)], {"embed": ["head"]}))
        [('embed', 1), ('head', 1), ('norm', 2)]
    """
    for name, tensor in named_tensors:
        for each in (name, *tied.get(name, ())):
            yield each, tensor


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
