"""Lets each rank of a run notice that another one is gone, and know which.

A collective operation needs every rank. Where one is gone, the others wait for ever (NCCL, a cut cable) or stop with a
message that names a socket (gloo). Here rank zero keeps a line, a TCP connection, to each of the others. Both ends send a
beat now and then: a line that closes tells that the other process has ended, one that stays silent that its host is
out of reach. Rank zero passes on what it notices. Beats come from a thread of their own, whatever the rank is busy with.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

HANDSHAKE_S = 60.0
"""How long the ranks wait for one another when the lines are laid."""
_POLL_S = 0.5
"""A watch looks at its clock at least this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A rank without which no step can end."""

    rank: int
    host: str
    reason: str
    """What was noticed, as the rest of a sentence: "is missing: its process has ended"."""
    is_failure: bool = False
    """True: the rank itself said that it stops, because of an error of its own."""


class Line:
    """One end of a connection to another rank; messages are lines of JSON.

    Args:
        connection: open.
        rank: of the other end.
        host: of the other end.
    """

    def __init__(self, connection: socket.socket, rank: int = -1, host: str = "") -> None:
        self.connection = connection
        self.rank = rank
        self.host = host
        self.heard = time.monotonic()
        self._unfinished = b""

    def send(self, **message: Any) -> None:
        """Send if it can be done without waiting; an end that takes nothing is found out by its silence."""
        with contextlib.suppress(OSError):
            self.connection.send(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """Return what has arrived; None where the other end has closed the line."""
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self.heard = time.monotonic()
        *whole, self._unfinished = (self._unfinished + data).split(b"\n")
        return [json.loads(text) for text in whole]

    def wait_for_message(self, timeout_s: float) -> dict[str, Any]:
        """Return the first message; an OSError or ValueError if there comes none, or no JSON."""
        self.connection.settimeout(timeout_s)
        messages: list[dict[str, Any]] | None = []
        while not messages:
            messages = self.receive()
            if messages is None:
                raise ConnectionError("the line was closed, or nothing came in time")
        return messages[0]

    def hang_up(self, timeout_s: float = 1.0) -> None:
        """Close after what was sent has arrived.

        Closed with beats unread, a connection is reset, and what the other end has not read yet is thrown away with it:
        it would take a rank that has left for one that is gone.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(timeout_s)
            while time.monotonic() < deadline and self.connection.recv(65536):
                pass
        self.close()

    def close(self) -> None:
        """Close at once."""
        self.connection.close()


def open_hub() -> socket.socket:
    """Return a socket on a free port, on which rank zero waits for the others."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
        )
    return socket.create_server(("", 0), backlog=4096)


def accept(
    hub: socket.socket, token: str, num_lines: int, timeout_s: float = HANDSHAKE_S
) -> list[Line]:
    """Take the calls of the other ranks, on rank zero; strangers are turned away.

    Args:
        hub: from open_hub.
        token: what the others show.
        num_lines: how many will call.
        timeout_s: how long to wait for all of them.

    Raises:
        ConnectionError: not all called in time.
    """
    lines: dict[int, Line] = {}
    deadline = time.monotonic() + timeout_s
    while len(lines) < num_lines:
        hub.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            connection, _ = hub.accept()
        except TimeoutError:
            missing = sorted(set(range(1, num_lines + 1)) - lines.keys())
            raise ConnectionError(
                f"callbacks.rank_watch: ranks {missing} did not reach rank 0 on {socket.gethostname()}, port "
                f"{hub.getsockname()[1]}, within {timeout_s:.0f} s. Needed: every port between the hosts open. "
                "Open them, or set callbacks.rank_watch=null."
            ) from None
        line = Line(connection)
        try:
            hello = line.wait_for_message(timeout_s=5.0)
        except (OSError, ValueError):
            line.close()
            continue
        if hello.get("token") != token:
            line.close()
            continue
        line.rank, line.host = hello["rank"], hello["host"]
        line.send(host=socket.gethostname())
        lines[line.rank] = line
    return list(lines.values())


def call(address: str, port: int, token: str, rank: int) -> Line:
    """Call rank zero, from another rank.

    Args:
        address: of rank zero's host.
        port: of its hub.
        token: shown to it.
        rank: who calls.

    Raises:
        ConnectionError: it cannot be reached.
    """
    try:
        line = Line(socket.create_connection((address, port), timeout=HANDSHAKE_S))
        line.send(token=token, rank=rank, host=socket.gethostname())
        line.rank, line.host = 0, line.wait_for_message(HANDSHAKE_S)["host"]
    except OSError as error:
        raise ConnectionError(
            f"callbacks.rank_watch: rank {rank} on {socket.gethostname()} cannot reach rank 0 at {address}, port {port} "
            f"({error}). Needed: every port between the hosts open. Open them, or set callbacks.rank_watch=null."
        ) from error
    return line


class PeerWatch:
    """Listens on the lines of this rank until one is lost or this rank leaves.

    Args:
        rank: of this process.
        lines: to all other ranks on rank zero, to rank zero on the others.
        missing_after_s: a line on which nothing comes for so long is lost.
        on_loss: called once, in the watch's thread, with the first loss.
    """

    def __init__(
        self,
        rank: int,
        lines: Iterable[Line],
        missing_after_s: float,
        on_loss: Callable[[Loss], None],
    ) -> None:
        self._rank = rank
        self._lines = list(lines)
        self._missing_after_s = missing_after_s
        self._beat_every_s = missing_after_s / 10
        self._on_loss = on_loss
        self._loss: Loss | None = None
        self._lost = threading.Event()
        self._left = False  # losses count no more
        self._said_goodbye = threading.Event()  # only then may the lines be closed
        self._thread = threading.Thread(target=self._run, name="rank-watch", daemon=True)

    def start(self) -> None:
        """Begin to send and to expect beats."""
        for line in self._lines:
            line.connection.setblocking(False)
        self._thread.start()

    def leave(self) -> None:
        """Say that this rank needs the others no more, and stop watching."""
        self._left = True
        for line in list(self._lines):
            line.send(left=True)
        self._said_goodbye.set()

    def fail(self, reason: str) -> None:
        """Tell the others that this rank stops because of an error, and stop watching.

        Args:
            reason: the error in one line.
        """
        self._left = True
        loss = Loss(rank=self._rank, host=socket.gethostname(), reason=reason, is_failure=True)
        for line in list(self._lines):
            line.send(lost=asdict(loss))
        self._said_goodbye.set()

    def wait_for_loss(self, timeout_s: float) -> Loss | None:
        """Return the first loss, once there is one; None if there is none in time."""
        self._lost.wait(timeout_s)
        return self._loss

    def _run(self) -> None:
        """Send beats, hear the others, look for silent ones."""
        with selectors.DefaultSelector() as selector:
            for line in self._lines:
                selector.register(line.connection, selectors.EVENT_READ, line)
            looked = time.monotonic()
            next_beat = looked
            while not self._said_goodbye.is_set() and self._loss is None:
                for key, _ in selector.select(timeout=min(_POLL_S, self._beat_every_s)):
                    if not self._hear(key.data):
                        selector.unregister(key.data.connection)
                        key.data.close()
                now = time.monotonic()
                self._forgive(now - looked)
                looked = now
                self._look_for_silence(now)
                if now >= next_beat:
                    next_beat = now + self._beat_every_s
                    for line in self._lines:
                        line.send(beat=True)
        if self._loss is not None:
            self._on_loss(self._loss)
        for line in self._lines:
            line.hang_up()

    def _hear(self, line: Line) -> bool:
        """Read a line; False once it is of no further use."""
        messages = line.receive()
        if messages is None:
            self._lose(Loss(rank=line.rank, host=line.host, reason="its process has ended"))
            return False
        for message in messages:
            if "lost" in message:
                self._lose(Loss(**message["lost"]))
            if "left" in message:
                self._lines.remove(line)
                return False
        return True

    def _forgive(self, slept_s: float) -> None:
        """Excuse silence during which this process did not run itself, as when a job is suspended."""
        if slept_s > 2 * max(_POLL_S, self._beat_every_s):
            for line in self._lines:
                line.heard += slept_s

    def _look_for_silence(self, now: float) -> None:
        for line in self._lines:
            if now - line.heard > self._missing_after_s:
                reason = f"nothing was heard of it for {self._missing_after_s:.0f} s"
                self._lose(Loss(rank=line.rank, host=line.host, reason=reason))

    def _lose(self, loss: Loss) -> None:
        """Note the first loss and pass it on."""
        if self._loss is not None or self._left:
            return
        self._loss = loss
        for line in self._lines:
            if line.rank != loss.rank:
                line.send(lost=asdict(loss))
        self._lost.set()
