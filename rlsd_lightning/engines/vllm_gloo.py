"""How a vLLM server takes in weights from a trainer in another process. Only vLLM imports this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo

from rlsd_lightning.engines.vllm_transfer import Kind, Layout, TransferGroup
from rlsd_lightning.engines.vllm_worker import LayerwiseReceiver


@dataclass
class GroupInit(WeightTransferInitInfo):
    """Where the sender waits for the workers."""

    host: str
    """The sender's."""
    port: int
    """Of its store."""
    size: int
    """The sender and all workers."""
    timeout_s: float
    """For meeting and for every transfer."""


@dataclass
class BucketUpdate(WeightTransferUpdateInfo):
    """What the bucket holds that the sender is going to send; see vllm_transfer.Layout."""

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]


class GlooReceiver(LayerwiseReceiver):
    """Receives buckets over TCP, into the memory of the host."""

    init_info_cls = GroupInit
    update_info_cls = BucketUpdate
    kind: ClassVar[Kind] = "gloo"
    _group: TransferGroup | None = None

    def init_transfer_engine(self, init_info: GroupInit) -> None:
        """Meet the sender; a group from earlier is left."""
        self.shutdown()
        parallel = self.parallel_config
        rank = 1 + parallel.data_parallel_index * parallel.world_size + parallel.rank
        self._group = TransferGroup.join(
            self.kind, init_info.host, init_info.port, rank, init_info.size, init_info.timeout_s
        )

    def receive_weights(self, update_info: BucketUpdate) -> None:
        """Receive one bucket and take it in."""
        if self._group is None:
            raise RuntimeError("no sender has been met: call init_weight_transfer_engine first")
        layout = Layout(update_info.names, update_info.dtypes, update_info.shapes)
        buffer = torch.empty(layout.num_bytes, dtype=torch.uint8, device=self._group.device)
        try:
            self._group.wait(self._group.broadcast(buffer))
        except BaseException:
            self.put_back()
            raise
        self.load(layout.unpack(buffer))

    def shutdown(self) -> None:
        """Leave the group."""
        if self._group is not None:
            self._group.leave()
            self._group = None


class NcclReceiver(GlooReceiver):
    """Receives buckets from GPU to GPU."""

    kind: ClassVar[Kind] = "nccl"
