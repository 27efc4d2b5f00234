"""Talks to one vLLM server over HTTP: plain calls with time limits, which another thread can cut short."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GENERATE = "/inference/v1/generate"
"""Token ids in, token ids out; vLLM has it with --enable-scale-out."""
_QUICK_S = 10.0
"""For calls that a healthy server answers at once."""
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""A host whose cable is pulled is noticed after 40 s, however long its answer may take. Not every system has these."""


class ServerGoneError(Exception):
    """The server cannot be reached, or has broken off."""


class ServerTimeoutError(ServerGoneError):
    """The server has not answered in time."""


class RefusedError(Exception):
    """The server has answered, but not done what it was asked for.

    Args:
        status: of HTTP.
        reason: the server's own words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status}: {reason}")
        self.status = status
        self.reason = reason


class ServerClient:
    """One vLLM server.

    Args:
        url: "http://host:port".
        connect_timeout_s: how long making a connection may take.
    """

    def __init__(self, url: str, connect_timeout_s: float = 10.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise ValueError(
                f"engine.servers holds {url!r}. Needed: http://HOST:PORT, the line that serve-rollouts prints."
            )
        self.url = url.rstrip("/")
        self.host, self.port = parts.hostname, parts.port or 80
        self._connect_timeout_s = connect_timeout_s
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()

    def is_healthy(self) -> bool:
        """Whether the server and the engine behind it are up."""
        try:
            self.call("GET", "/health", timeout_s=_QUICK_S)
        except (ServerGoneError, RefusedError):
            return False
        return True

    def ask_workers(self, method: str, timeout_s: float = _QUICK_S) -> list[Any]:
        """Return what each worker answers to a method of vllm_worker.RolloutWorker."""
        answer = self.post("/collective_rpc", {"method": method}, timeout_s=timeout_s)
        return answer["results"]

    def post(
        self,
        path: str,
        body: Any = None,
        timeout_s: float = _QUICK_S,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Any:
        """POST as JSON and return the answer; see `call`."""
        return self.call("POST", path, body, timeout_s, given_up)

    def get(self, path: str, timeout_s: float = _QUICK_S) -> Any:
        """GET and return the answer; see `call`."""
        return self.call("GET", path, timeout_s=timeout_s)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        timeout_s: float = _QUICK_S,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Return the server's answer, read from JSON; None for an empty one.

        Args:
            method: of HTTP.
            path: of the route.
            body: is sent as JSON; None sends nothing.
            timeout_s: for the answer.
            given_up: says whether nobody wants the answer any more; whoever makes that so calls `cancel` then.

        Raises:
            ServerTimeoutError: none came in time.
            ServerGoneError: the server cannot be reached, has broken off, or `cancel` was called.
            RefusedError: the answer is an error.
        """
        data = None if body is None else json.dumps(body).encode()
        with self._connection() as connection:
            try:
                connection.connect()
                if connection.is_cancelled or given_up():
                    raise ServerGoneError(f"{path}: given up")
                connection.sock.settimeout(timeout_s)
                connection.request(method, path, data, _headers())
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
            except TimeoutError as error:
                raise ServerTimeoutError(f"no answer to {path} in {timeout_s:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                raise ServerGoneError(f"{path}: {str(error) or type(error).__name__}") from error
        if answer.status >= 400:
            raise RefusedError(answer.status, _reason(text))
        return json.loads(text) if text else None

    def cancel(self) -> None:
        """Break off all calls that other threads are waiting for; vLLM gives up what they had asked for."""
        with self._lock:
            for connection in self._connections:
                connection.is_cancelled = True
                if connection.sock is not None:
                    _shut(connection.sock)

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        connection = _Connection(self.host, self.port, timeout=self._connect_timeout_s)
        with self._lock:
            self._connections.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection that notices a host that has vanished, and can be told to break off before it is there."""

    is_cancelled = False

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if name in vars(socket):
                self.sock.setsockopt(socket.IPPROTO_TCP, vars(socket)[name], value)


def _shut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def _headers() -> dict[str, str]:
    """Return the headers of a call; vLLM reads the same variable, and guards /inference and /v1 with it."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("VLLM_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _reason(text: str) -> str:
    """Return the words of an error; vLLM wraps them in several ways.

    Example:
        >>> _reason('{"error": {"message": "too long", "code": 400}}'), _reason('{"detail": "gone"}'), _reason("no")
        ('too long', 'gone', 'no')
    """
    try:
        answer = json.loads(text)
    except ValueError:
        return text.strip()[:500]
    if isinstance(answer, dict):
        answer = answer.get("error", answer.get("detail", answer))
    if isinstance(answer, dict):
        answer = answer.get("message", answer)
    return str(answer)[:500]
