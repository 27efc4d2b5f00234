"""How weights cross from a trainer to the workers of a vLLM server: a group of processes, and buckets of packed tensors.

Both sides import this module; it knows nothing of vLLM. torch.distributed's default group is neither needed nor touched.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroupGloo, TCPStore

Kind = Literal["gloo", "nccl"]
KINDS: dict[str, Kind] = {"rlsd_gloo": "gloo", "rlsd_nccl": "nccl"}
"""What a group is made of, by the name of the receiver that vLLM was started with."""
_ALIGNMENT = 16
"""A tensor in a bucket starts at a multiple of so many bytes, so that it can be seen in its own type."""


class TransferGroup:
    """One sender (rank 0) and all workers of one server.

    NCCL is used as torch's own tests use it, and needs a GPU of its own for each member; with it nothing could be tried
    where this was written: all else is shared with gloo, on which it is tested.

    Args:
        kind: "gloo" moves tensors on the CPU, "nccl" on GPUs.
        store: where the members meet.
        rank: of this member.
        size: number of members.
        host: this member's own address, at which the others reach it.
        timeout_s: for meeting and for every transfer.
        device: of this member's buffers; see `own_device`.
    """

    def __init__(
        self,
        kind: Kind,
        store: TCPStore,
        rank: int,
        size: int,
        host: str,
        timeout_s: float,
        device: torch.device,
    ) -> None:
        self._store = store
        self._timeout = timedelta(seconds=timeout_s)
        self.device = device
        self._last: Any = None
        meeting = PrefixStore("rlsd_weights", store)
        if kind == "gloo":
            self._group: Any = ProcessGroupGloo(meeting, rank, size, _gloo_options(host, timeout_s))
            return
        from torch.distributed import ProcessGroupNCCL  # where torch was built with it

        options = ProcessGroupNCCL.Options()
        options._timeout = self._timeout
        self._group = ProcessGroupNCCL(meeting, rank, size, options)

    @classmethod
    def join(
        cls, kind: Kind, host: str, port: int, rank: int, size: int, timeout_s: float
    ) -> TransferGroup:
        """Meet the sender at its store.

        Args:
            kind: as the sender's.
            host: of the sender.
            port: of its store.
            rank: of this member, from 1.
            size: number of members.
            timeout_s: see above.
        """
        limit = timedelta(seconds=timeout_s)
        store = TCPStore(host, port, size, is_master=False, timeout=limit, wait_for_workers=False)
        mine = own_address(host, port)
        return cls(kind, store, rank, size, mine, timeout_s, own_device(kind))

    def broadcast(self, buffer: Tensor) -> Any:
        """Start to send the sender's bytes to the others; the result has `wait`."""
        options = BroadcastOptions()
        options.rootRank = 0
        options.rootTensor = 0
        self._last = self._group.broadcast([buffer], options)
        return self._last

    def wait(self, work: Any) -> None:
        """Wait until a broadcast has ended; raise a RuntimeError when it failed or took too long."""
        work.wait(self._timeout)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def leave(self) -> None:
        """Be done with the group, without waiting for a member that does not answer."""
        threading.Thread(target=self._end, name="leave-transfer-group", daemon=True).start()

    def _end(self) -> None:
        """Break off what is on its way; gloo cannot, so that its group is kept until the time limit ends it."""
        if self.device.type == "cuda":
            self._group.abort()
        elif self._last is not None:
            with suppress(RuntimeError):
                self._last.wait(self._timeout)


def _gloo_options(host: str, timeout_s: float) -> Any:
    options = ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=timeout_s)
    options._threads = 1
    options._devices = [ProcessGroupGloo.create_device(hostname=host)]
    return options


def open_store(host: str, size: int, timeout_s: float) -> TCPStore:
    """Return the store at which the members of a group meet, at a free port of this host.

    Args:
        host: this host's address.
        size: number of members.
        timeout_s: how long they may take.
    """
    limit = timedelta(seconds=timeout_s)
    return TCPStore(host, 0, size, is_master=True, timeout=limit, wait_for_workers=False)


def own_device(kind: Kind) -> torch.device:
    """Return where a group of this kind has its buffers in this process; call it in the main thread.

    Args:
        kind: of the group.
    """
    if kind == "gloo":
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def own_address(host: str, port: int) -> str:
    """Return the address of this host from which another one is reached. Nothing is sent.

    Args:
        host: the other one's name or address.
        port: any of its ports.

    Example:
        >>> own_address("127.0.0.1", 80)
        '127.0.0.1'
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return probe.getsockname()[0]


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies in a bucket, one behind the other; it can be sent as JSON."""

    names: list[str] = field(default_factory=list)
    """Hugging Face names of weights."""
    dtypes: list[str] = field(default_factory=list)
    """Such as "bfloat16"."""
    shapes: list[list[int]] = field(default_factory=list)
    """Of whole weights."""

    @property
    def num_bytes(self) -> int:
        """Of the bucket."""
        return sum(map(_room, self.dtypes, self.shapes))

    def unpack(self, buffer: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights of a bucket, as views of it.

        Args:
            buffer: uint8 [num_bytes]
        """
        start = 0
        for name, dtype, shape in zip(self.names, self.dtypes, self.shapes, strict=True):
            end = start + _num_bytes(dtype, shape)
            yield name, buffer[start:end].view(getattr(torch, dtype)).view(shape)
            start += _room(dtype, shape)


def pack(
    named_tensors: Iterable[tuple[str, Tensor]], bucket_bytes: int, device: torch.device
) -> Iterator[tuple[Layout, Tensor]]:
    """Yield weights in buckets of at most `bucket_bytes`, or of one larger weight. Two buffers are used in turn.

    So a bucket is good until the next but one is asked for: one can be sent while the next is filled.

    Args:
        named_tensors: whole tensors; each is copied before the next one is asked for.
        bucket_bytes: of one buffer.
        device: where the buckets lie.

    Example:
        >>> weights = [("a", torch.ones(3)), ("b", torch.zeros(2, 2)), ("c", torch.ones(1))]
        >>> [layout.names for layout, _ in pack(weights, 32, torch.device("cpu"))]
        [['a', 'b'], ['c']]
    """
    buffers = [torch.empty(0, dtype=torch.uint8, device=device) for _ in range(2)]
    layout, used = Layout(), 0
    for name, tensor in named_tensors:
        dtype, shape = str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
        if used and used + _room(dtype, shape) > bucket_bytes:
            yield layout, buffers[0][:used]
            buffers.reverse()
            layout, used = Layout(), 0
        needed = used + _room(dtype, shape)
        if needed > len(buffers[0]):
            buffers[0] = _enlarged(buffers[0], used, max(needed, bucket_bytes))
        place = buffers[0][used : used + _num_bytes(dtype, shape)]
        place.view(tensor.dtype).view(shape).copy_(tensor.detach())
        layout.names.append(name)
        layout.dtypes.append(dtype)
        layout.shapes.append(shape)
        used = needed
    if used:
        yield layout, buffers[0][:used]


def _enlarged(buffer: Tensor, used: int, num_bytes: int) -> Tensor:
    larger = torch.empty(num_bytes, dtype=torch.uint8, device=buffer.device)
    larger[:used] = buffer[:used]
    return larger


def _num_bytes(dtype: str, shape: Sequence[int]) -> int:
    return torch.Size(shape).numel() * getattr(torch, dtype).itemsize


def _room(dtype: str, shape: Sequence[int]) -> int:
    """Count the bytes of a weight with those that are left free behind it."""
    return -(-_num_bytes(dtype, shape) // _ALIGNMENT) * _ALIGNMENT
