"""Sends the policy's weights to vLLM servers: one group of processes per server, so that one that dies takes no other along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.engines.vllm_client import RefusedError, ServerGoneError
from rlsd_lightning.engines.vllm_server_dispatch import RolloutServer
from rlsd_lightning.engines.vllm_transfer import (
    Kind,
    Layout,
    TransferGroup,
    open_store,
    own_address,
    own_device,
    pack,
)

_FAILURES = (ServerGoneError, RefusedError, RuntimeError, OSError)
"""What a server's death, or a fault on its side, is seen as: by HTTP, by the group, by the system."""
_IS_BACK_S = 2.0
"""For a server that was lost to show that it is there again."""
_GIVE_UP_S = 5.0
"""For a server to leave an update that has failed."""


class _Link:
    """This sender's group with one server, and the steps of an update there."""

    def __init__(
        self, server: RolloutServer, kind: Kind, host: str | None, timeout_s: float
    ) -> None:
        self.server = server
        self.reason: str | None = None
        self._kind = kind
        self._host = host
        self._timeout_s = timeout_s
        self._group: TransferGroup | None = None
        self._last: str | None = None

    def open(self, device: torch.device) -> None:
        """Have the server stop, forget what caches hold, and wait for weights; meet it first if it is new."""
        client = self.server.client
        if not self.server.is_up:
            client.get("/health", _IS_BACK_S)
        if self._group is None or client.get("/weight_info")["weight_version"] != self._last:
            self.close()
            client.ask_workers("rlsd_abandon_update")  # of a trainer that has died meanwhile
            client.ask_workers("rlsd_clear_kv_cache")  # NaNs of its weights would stay there
            self._meet(device)
        client.post("/pause?mode=wait", timeout_s=self._timeout_s)
        client.post("/start_weight_update", timeout_s=self._timeout_s)

    def send(self, layout: Layout, buffer: Tensor) -> None:
        """Send one bucket; it has been taken in when this returns."""
        assert self._group is not None, "opened before"
        work = self._group.broadcast(buffer)
        update = {"names": layout.names, "dtypes": layout.dtypes, "shapes": layout.shapes}
        self.server.client.post("/update_weights", {"update_info": update}, self._timeout_s)
        self._group.wait(work)

    def finish(self, label: str) -> None:
        """Put the weights into place and let the server go on."""
        client = self.server.client
        answers = client.ask_workers("rlsd_incomplete_layers", self._timeout_s)
        incomplete = sorted({layer for answer in answers for layer in answer})
        if incomplete:
            raise RuntimeError(
                f"{len(incomplete)} layers were not filled, the first is {incomplete[0]}"
            )
        client.post("/finish_weight_update", {"weight_version": label}, self._timeout_s)
        client.post("/resume", timeout_s=self._timeout_s)
        self._last = label

    def give_up(self) -> None:
        """Leave the server as it was before, where it can still be reached."""
        self.close()
        with suppress(*_FAILURES):
            self.server.client.ask_workers("rlsd_abandon_update", _GIVE_UP_S)
            self.server.client.post("/resume", timeout_s=_GIVE_UP_S)

    def close(self) -> None:
        """Leave the group; the next `open` makes another one."""
        if self._group is not None:
            self._group.leave()
            self._group = None

    def _meet(self, device: torch.device) -> None:
        client = self.server.client
        size = 1 + int(client.get("/get_world_size")["world_size"])
        host = self._host or own_address(client.host, client.port)
        store = open_store(host, size, self._timeout_s)
        meeting = {"host": host, "port": store.port, "size": size, "timeout_s": self._timeout_s}
        with ThreadPoolExecutor(1) as workers:
            called = workers.submit(
                client.post,
                "/init_weight_transfer_engine",
                {"init_info": meeting},
                self._timeout_s,
            )
            self._group = TransferGroup(self._kind, store, 0, size, host, self._timeout_s, device)
            called.result()


class WeightSender:
    """Rank zero's side of every sync; lives as long as the engine.

    Args:
        servers: all of them, lost ones included: each is tried again at every sync.
        kind: of the groups.
        bucket_bytes: how much is sent at a time; two such buffers are held.
        timeout_s: for each phase: stopping, meeting, one bucket, putting into place.
        host: this host's address for the servers; None for the one that leads to each of them.
    """

    def __init__(
        self,
        servers: Sequence[RolloutServer],
        kind: Kind,
        bucket_bytes: int,
        timeout_s: float,
        host: str | None,
    ) -> None:
        self._links = [_Link(server, kind, host, timeout_s) for server in servers]
        self._kind = kind
        self._bucket_bytes = bucket_bytes
        self._threads = ThreadPoolExecutor(len(servers), thread_name_prefix="weight-sync")

    def send(
        self, named_tensors: Iterable[tuple[str, Tensor]], label: str
    ) -> tuple[list[str], dict[str, str]]:
        """Send weights to every server that can be reached; all tensors are taken, whatever happens.

        Args:
            named_tensors: whole weights.
            label: what the servers are to call them.

        Returns:
            Addresses of the servers that have them, and why the others have not.
        """
        for link in self._links:
            link.reason = None
        device = own_device(self._kind)
        links = self._each(self._links, "stopping it", lambda link: link.open(device))
        try:
            links = self._send_buckets(links, pack(named_tensors, self._bucket_bytes, device))
        except BaseException:
            for link in links:
                link.give_up()
            raise
        links = self._each(links, "putting weights into place", lambda link: link.finish(label))
        return (
            [link.server.url for link in links],
            {link.server.url: link.reason for link in self._links if link.reason is not None},
        )

    def close(self) -> None:
        """Leave all groups."""
        for link in self._links:
            link.close()
        self._threads.shutdown()

    def _send_buckets(
        self, links: list[_Link], buckets: Iterable[tuple[Layout, Tensor]]
    ) -> list[_Link]:
        """Send bucket after bucket: one is filled while the one before is on its way."""
        sent: dict[_Link, Future[None]] = {}
        for layout, buffer in buckets:
            links = self._wait(sent, "sending weights") if sent else links
            sent = {link: self._threads.submit(link.send, layout, buffer) for link in links}
        return self._wait(sent, "sending weights") if sent else links

    def _each(
        self, links: Sequence[_Link], phase: str, step: Callable[[_Link], Any]
    ) -> list[_Link]:
        """Take a step with each server at the same time; return those with which it went well."""
        return self._wait({link: self._threads.submit(step, link) for link in links}, phase)

    def _wait(self, steps: dict[_Link, Future[Any]], phase: str) -> list[_Link]:
        well = []
        for link, step in steps.items():
            error = step.exception()
            if error is None:
                well.append(link)
            elif isinstance(error, _FAILURES):
                link.reason = f"{phase}: {str(error).splitlines()[0]}"
                link.give_up()
            else:
                raise error
        return well
