"""Where a policy's weights lie among the ranks, and how to see them whole: one class per way of keeping them.

Every policy starts whole. A strategy that cuts weights into parts (strategies.py) says so by setting
`policy.placement`; weights.py, teachers and engines ask it and need not know the strategy. What gathers is collective:
every rank must enter it, with the same weights, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rlsd_lightning.models import Policy


class Placement(Protocol):
    """What one way of keeping weights can do."""

    is_sharded: bool
    """A rank holds parts only, so that forward passes communicate: every rank must run the same ones."""

    def shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of the whole weight."""
        ...

    def local(self, parameter: nn.Parameter) -> Tensor:
        """Return this rank's part of a weight; writing to it changes the weight."""
        ...

    def gathered(
        self, parameters: Sequence[nn.Parameter]
    ) -> AbstractContextManager[Sequence[Tensor]]:
        """Give whole weights on every rank for a while, not to be written to."""
        ...

    def whole(self, policy: Policy) -> AbstractContextManager[None]:
        """Hold all weights of a policy whole, so that its forward passes, without gradient, communicate no more."""
        ...

    def release(self, policy: Policy) -> None:
        """Let go of what forward passes left gathered, so that parameters are this rank's parts and can be written to."""
        ...


class Whole:
    """Every rank holds every weight: one process, DDP, ZeRO-1 and ZeRO-2."""

    is_sharded = False

    def shape(self, parameter: nn.Parameter) -> torch.Size:
        """See Placement."""
        return parameter.shape

    def local(self, parameter: nn.Parameter) -> Tensor:
        """See Placement."""
        return parameter.detach()

    @contextmanager
    def gathered(self, parameters: Sequence[nn.Parameter]) -> Iterator[Sequence[Tensor]]:
        """See Placement."""
        yield [parameter.detach() for parameter in parameters]

    @contextmanager
    def whole(self, policy: Policy) -> Iterator[None]:
        """See Placement."""
        yield

    def release(self, policy: Policy) -> None:
        """See Placement."""


class ZeroPartitioned:
    """DeepSpeed's ZeRO-3: a weight is flattened and cut into equal parts, the last one padded.

    Args:
        offload: DeepSpeed's DeepSpeedZeRoOffload, whose hooks gather weights around every submodule's forward pass.
    """

    is_sharded = True

    def __init__(self, offload: Any) -> None:
        self._offload = offload

    def shape(self, parameter: nn.Parameter) -> torch.Size:
        """See Placement."""
        return parameter.ds_shape

    def local(self, parameter: nn.Parameter) -> Tensor:
        """See Placement."""
        return parameter.ds_tensor

    @contextmanager
    def gathered(self, parameters: Sequence[nn.Parameter]) -> Iterator[Sequence[Tensor]]:
        """See Placement."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters)):
            yield [parameter.detach() for parameter in parameters]

    @contextmanager
    def whole(self, policy: Policy) -> Iterator[None]:
        """See Placement.

        DeepSpeed's hooks free a weight after each use, even one that was gathered for longer, so they are taken off
        meanwhile; TRL does the same for generation.
        """
        parameters = list(policy.parameters())
        self._offload.empty_partition_cache()  # what the last backward pass may have left gathered
        with self.gathered(parameters):
            for parameter in parameters:
                parameter.ds_active_sub_modules.clear()
            for hook in [*self._offload.forward_hooks, *self._offload.backward_hooks]:
                hook.remove()
            self._offload.forward_hooks, self._offload.backward_hooks = [], []
            try:
                yield
            finally:
                self._offload._register_deepspeed_module(self._offload.module)

    def release(self, policy: Policy) -> None:
        """See Placement; DeepSpeed's parts are there, and are gathered anew, whatever is gathered now."""


class FullySharded:
    """PyTorch's FSDP2: weights are DTensors, cut along their first axis."""

    is_sharded = True

    def shape(self, parameter: nn.Parameter) -> torch.Size:
        """See Placement."""
        return parameter.shape

    def local(self, parameter: nn.Parameter) -> Tensor:
        """See Placement."""
        return parameter.detach().to_local()

    @contextmanager
    def gathered(self, parameters: Sequence[nn.Parameter]) -> Iterator[Sequence[Tensor]]:
        """See Placement."""
        yield [parameter.detach().full_tensor() for parameter in parameters]

    @contextmanager
    def whole(self, policy: Policy) -> Iterator[None]:
        """See Placement."""
        units = _fsdp_units(policy)
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in units:
                # the root keeps its weights between forward and backward: the output embedding is used after it
                unit.set_reshard_after_forward(unit is not policy, recurse=False)
            self.release(policy)

    def release(self, policy: Policy) -> None:
        """See Placement."""
        for unit in _fsdp_units(policy):
            unit.reshard()


def _fsdp_units(policy: Policy) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in policy.modules() if isinstance(module, FSDPModule)]


WHOLE: Placement = Whole()
"""The one placement that needs nothing to know."""
