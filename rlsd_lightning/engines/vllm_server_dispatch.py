"""Shares the requests of one `generate` out among servers: least loaded first, again elsewhere when one dies, all ended at the end."""

from __future__ import annotations

import http
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_client import (
    GENERATE,
    RefusedError,
    ServerClient,
    ServerGoneError,
)

log = logging.getLogger(__name__)

_MAX_TRIES = 4
"""A request after which so many servers have gone is taken for the reason."""
_ABORT_S = 3.0
"""How long is waited for a server to confirm that it has given up requests."""


@dataclass(eq=False, slots=True)
class RolloutServer:
    """One server, as this process sees it."""

    client: ServerClient
    label: str | None = None
    """Of the weights that it has from this run; None: it has none, or is not to be used before the next sync."""
    is_up: bool = True
    """False from when it was lost until it is synced again."""
    num_running: int = 0
    """Requests of this process."""
    settings: dict[str, Any] = field(default_factory=dict)
    """See vllm_worker.RolloutWorker.rlsd_settings."""

    @property
    def url(self) -> str:
        """Its address, which is its name in messages."""
        return self.client.url

    def lose(self, reason: str) -> None:
        """Use it no more until the next sync; say so once."""
        self.label = None
        if self.is_up:
            self.is_up = False
            log.warning(
                "engine: rollout server %s is lost (%s). The others go on; it is tried again at the next sync.",
                self.url,
                reason,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The group of one prompt."""

    problem_id: str
    """For messages."""
    body: Callable[[], dict[str, Any]]
    """Makes what is sent; may take a while, and raise an EngineError."""


class Dispatch:
    """Sends requests to all servers that have the present weights.

    Args:
        servers: to choose from; those before others where as much is running.
        others: asked only when none of the servers is left.
        label: of the present weights.
        requests_per_server: at most so many at a time.
        request_timeout_s: a server that takes longer for one request is given up.
        timeout_s: for all requests together.
    """

    def __init__(
        self,
        servers: Sequence[RolloutServer],
        others: Sequence[RolloutServer],
        label: str,
        *,
        requests_per_server: int,
        request_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self._servers, self._others = servers, others
        self._label = label
        self._per_server = requests_per_server
        self._request_timeout_s = request_timeout_s
        self._timeout_s = timeout_s
        self._running: dict[str, RolloutServer] = {}
        self._changed = threading.Condition()
        self._ended = False

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each request's place with vLLM's answer, as they come.

        Raises:
            EngineError: one was refused, no server is left, or the time is over. Nothing is left running.
        """
        num_threads = min(len(requests), self._per_server * len(self._servers))
        pool = ThreadPoolExecutor(max(num_threads, 1), thread_name_prefix="rollouts")
        places: dict[Future[dict[str, Any]], int] = {
            pool.submit(self._answer, request): place for place, request in enumerate(requests)
        }
        try:
            for future in as_completed(places, timeout=self._timeout_s):
                yield places[future], future.result()
        except TimeoutError as error:
            late = [requests[place].problem_id for each, place in places.items() if not each.done()]
            raise EngineError(
                f"engine: {len(late)} of {len(requests)} groups are not there after {self._timeout_s:g} s; the first is "
                f"that of problem {late[0]!r}. Raise engine.generate_timeout_s, or start more servers.",
                late[0],
            ) from error
        finally:
            for future in places:
                future.cancel()
            self._end()
            pool.shutdown()

    def _answer(self, request: Request) -> dict[str, Any]:
        """Return the answer to one request, from whichever server gives one."""
        body = request.body()
        for _ in range(_MAX_TRIES):
            with self._server(request) as server:
                answer = self._ask(server, request, body)
                if answer is not None:
                    return answer
        raise EngineError(
            f"engine: problem {request.problem_id!r} was given to {_MAX_TRIES} rollout servers, and each was lost over it "
            "or broke it off. Look at the servers' output; leave the problem out if it is the reason.",
            request.problem_id,
        )

    def _ask(
        self, server: RolloutServer, request: Request, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return a server's answer; None if another one has to be asked."""
        name = uuid.uuid4().hex
        self._running[name] = server
        try:
            answer = server.client.post(
                GENERATE,
                body | {"request_id": name},
                timeout_s=self._request_timeout_s,
                given_up=lambda: self._ended,
            )
        except ServerGoneError as error:
            if not self._ended:
                server.lose(str(error))
                self._abort(server, [name])
            return None
        except RefusedError as error:
            if (
                error.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
                and not server.client.is_healthy()
            ):
                server.lose(str(error))
                return None
            raise EngineError(
                f"engine: rollout server {server.url} refused problem {request.problem_id!r}: {error}",
                request.problem_id,
            ) from error
        finally:
            self._running.pop(name, None)
        if not self._is_current(answer):
            server.lose(
                "its weights are not those of the last sync: it was started again, or serves another run"
            )
            return None
        broken_off = any(choice["finish_reason"] == "abort" for choice in answer["choices"])
        return None if broken_off else answer

    def _is_current(self, answer: dict[str, Any]) -> bool:
        """Whether all tokens were sampled by the weights of the last sync."""
        spans = [span for choice in answer["choices"] for span in choice["weight_versions"] or ()]
        return all(span["version"] == self._label for span in spans)

    @contextmanager
    def _server(self, request: Request) -> Iterator[RolloutServer]:
        """Choose the server with the least to do, and count the request as running there."""
        with self._changed:
            while not self._ended:
                usable = self._usable(self._servers) or self._usable(self._others)
                if not usable:
                    servers = ", ".join(server.url for server in self._servers)
                    raise EngineError(
                        f"engine: none of the rollout servers {servers} is left for problem "
                        f"{request.problem_id!r}. Start them again (python -m rlsd_lightning serve-rollouts); the run goes "
                        "on from its newest checkpoint.",
                        request.problem_id,
                    )
                chosen = min(usable, key=lambda server: server.num_running)
                if chosen.num_running < self._per_server:
                    break
                self._changed.wait(1.0)
            else:
                raise EngineError("engine: generating was broken off.")
            chosen.num_running += 1
        try:
            yield chosen
        finally:
            with self._changed:
                chosen.num_running -= 1
                self._changed.notify_all()

    def _usable(self, servers: Sequence[RolloutServer]) -> list[RolloutServer]:
        return [server for server in servers if server.is_up and server.label == self._label]

    def _end(self) -> None:
        """Have the servers give up what is still running, and the threads stop waiting for it."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        running: dict[RolloutServer, list[str]] = {}
        for name, server in list(self._running.items()):
            running.setdefault(server, []).append(name)
        for server, names in running.items():
            self._abort(server, names)
            server.client.cancel()

    def _abort(self, server: RolloutServer, names: list[str]) -> None:
        """Ask a server to give up requests; one that does not answer is left to itself."""
        ids = [f"generate-tokens-{name}" for name in names]  # as vLLM calls them
        with suppress(ServerGoneError, RefusedError):
            server.client.post("/abort_requests", {"request_ids": ids}, timeout_s=_ABORT_S)
