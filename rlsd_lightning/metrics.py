"""Means, and largest values, that stay exact when a step is cut into micro-batches and ranks.

A mean of means depends on the cut; a total with a count does not. Stations hand over `Mean`s, the step adds
them up and reduces them over ranks once. A `Maximum` goes the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class Mean:
    """A total and the count it is spread over.

    Example:
        >>> float(Mean(6.0, 3) + Mean(4.0, 1))
        2.5
    """

    total: float | Tensor
    count: float | Tensor

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    def plain(self) -> Mean:
        """Return it in Python numbers, fit to be sent to other ranks."""
        return Mean(float(self.total), float(self.count))

    def __float__(self) -> float:
        count = float(self.count)
        return float(self.total) / count if count else 0.0


@dataclass(frozen=True, slots=True)
class Maximum:
    """The largest of what was seen.

    Example:
        >>> float(Maximum(3.0) + Maximum(1.0))
        3.0
    """

    value: float | Tensor

    def __add__(self, other: Maximum) -> Maximum:
        return Maximum(max(float(self), float(other)))

    def plain(self) -> Maximum:
        """Return it in Python numbers, fit to be sent to other ranks."""
        return Maximum(float(self.value))

    def __float__(self) -> float:
        return float(self.value)


Metric = Mean | Maximum
"""What a station may hand over: both come out the same however a step is cut."""


def masked_mean(values: Tensor, mask: Tensor) -> Mean:
    """Average `values` where `mask` is True; no gradient flows.

    Selects instead of multiplying, so that NaN at a masked place stays out.

    Args:
        values: any shape.
        mask: bool, broadcastable to values.

    Example:
        >>> float(masked_mean(torch.tensor([1.0, float("nan"), 3.0]), torch.tensor([True, False, True])))
        2.0
    """
    chosen = values.detach().masked_select(mask)
    return Mean(chosen.sum(dtype=torch.float64), torch.tensor(chosen.numel(), dtype=torch.float64))


def grad_norm(gradients: Sequence[Tensor]) -> float:
    """Return the L2 norm of all gradients together, whole ones or parts of a sharded model's.

    Args:
        gradients: any shapes; DTensors are joined over the ranks, so that every rank must call this.

    Example:
        >>> grad_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def added(metrics: Mapping[str, Metric], more: Mapping[str, Metric]) -> dict[str, Metric]:
    """Add metrics up by name; one that only one side has stays as it is.

    Example:
        >>> both = added({"a": Mean(1.0, 2)}, {"a": Mean(3.0, 2), "b": Mean(5.0, 1)})
        >>> {name: float(metric) for name, metric in both.items()}
        {'a': 1.0, 'b': 5.0}
    """
    summed = {name: metrics[name] + more[name] for name in metrics.keys() & more.keys()}
    return {**metrics, **more, **summed}


class StepMetrics:
    """Collects the `Metric`s of one optimizer step over its micro-batches.

    Example:
        >>> step = StepMetrics()
        >>> step.add({"rollout/reward_mean": Mean(1.0, 2)})
        >>> step.add({"rollout/reward_mean": Mean(3.0, 2)})
        >>> step.reduce()
        {'rollout/reward_mean': 1.0}
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def add(self, metrics: Mapping[str, Metric]) -> None:
        """Add one micro-batch's metrics to the step's."""
        self._metrics = added(self._metrics, metrics)

    def reduce(self) -> dict[str, float]:
        """Return the step's averages over all micro-batches and ranks, and start afresh.

        Collective: every rank must call it. Ranks may have measured different things: each mean is over the ranks
        that have it.
        """
        mine = {name: metric.plain() for name, metric in self._metrics.items()}
        self._metrics = {}
        everyone = [mine]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone = [{} for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(everyone, mine)
        reduced = StepMetrics()
        for rank in everyone:
            reduced.add(rank)
        return {name: float(metric) for name, metric in sorted(reduced._metrics.items())}
