"""Rollouts by vLLM servers: other processes, on this host or others, that are started with `serve-rollouts`.

Any number of servers, each with the whole model. Prompts go to whichever has the least to do; a server that dies is
left out until it is there again at a sync, and what it had begun is done by another one. Draws depend on the problem's
id and the seed alone, so it does not matter which server answers.
"""

from __future__ import annotations

import base64
import copy
import http
import io
import logging
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_bound import BoundEngine, check_weight_names, finite
from rlsd_lightning.engines.vllm_client import (
    GENERATE,
    RefusedError,
    ServerClient,
    ServerGoneError,
)
from rlsd_lightning.engines.vllm_requests import (
    check_lengths,
    check_prompt,
    collapsed_ids,
    group_of,
    not_finite,
    pictures,
    sampling_settings,
)
from rlsd_lightning.engines.vllm_server_dispatch import Dispatch, Request, RolloutServer
from rlsd_lightning.engines.vllm_server_sync import WeightSender
from rlsd_lightning.engines.vllm_transfer import KINDS
from rlsd_lightning.types import Completion, Prompt, Sampling
from rlsd_lightning.weights import with_tied

log = logging.getLogger(__name__)

_NOT_A_NUMBER = -9999.0
"""What vLLM sends instead of a log-prob that is not finite."""


class VLLMServerEngine(BoundEngine):
    """vLLM 0.32 behind HTTP.

    Args:
        servers: their addresses: http://host:port.
        temperature: of the training's rollouts; says in which form servers must give log-probs, see serve.py.
        start_timeout_s: how long servers may take until they are ready when training starts.
        request_timeout_s: a server that takes longer for the group of one prompt is given up.
        generate_timeout_s: for all prompts of one call.
        sync_timeout_s: for each phase of handing over weights.
        requests_per_server: prompts that a rank has running on a server at a time.
        bucket_gb: weights are sent in pieces of this size; two of them are held.
        trainer_host: the address at which servers reach rank zero; None for the one that leads to them.
    """

    runs_elsewhere = True

    def __init__(
        self,
        servers: Sequence[str],
        *,
        temperature: float,
        start_timeout_s: float = 900.0,
        request_timeout_s: float = 900.0,
        generate_timeout_s: float = 3600.0,
        sync_timeout_s: float = 300.0,
        requests_per_server: int = 64,
        bucket_gb: float = 0.25,
        trainer_host: str | None = None,
    ) -> None:
        if not servers or len(set(servers)) < len(servers):
            raise ValueError(
                f"engine.servers is {list(servers)}. Needed: the addresses of one or more servers, each once. Start one "
                "with python -m rlsd_lightning serve-rollouts model.path=..., which prints its address."
            )
        super().__init__(temperature)
        self._servers = [RolloutServer(ServerClient(url)) for url in servers]
        self._others: list[RolloutServer] = []
        self.dtype = ""
        self._start_timeout_s = start_timeout_s
        self._request_timeout_s = request_timeout_s
        self._generate_timeout_s = generate_timeout_s
        self._sync_timeout_s = sync_timeout_s
        self._requests_per_server = requests_per_server
        self._bucket_bytes = int(bucket_gb * 1e9)
        self._trainer_host = trainer_host
        self._sender: WeightSender | None = None
        self._in_use = threading.Lock()
        self._started = False
        self._label: str | None = None
        self._current: list[RolloutServer] = []
        self._max_model_len = 0

    # Lifetime

    def start(self) -> None:
        """See StartsWithRanks: wait for all servers, and make sure that each has what training needs.

        Raises:
            EngineError: lists all that is missing, with the servers' addresses.
        """
        if self._started:
            return
        deadline = time.monotonic() + self._start_timeout_s
        faults = [fault for server in self._servers for fault in self._faults(server, deadline)]
        backends = {server.settings["backend"] for server in self._servers if server.settings}
        if len(backends) > 1:
            faults.append(f"they receive weights in different ways: {', '.join(sorted(backends))}")
        if faults:
            raise EngineError(
                "engine.servers: not all of them can be used:\n"
                + "\n".join(f"  {fault}" for fault in faults)
                + "\nNeeded: servers started with python -m rlsd_lightning serve-rollouts and this run's settings."
            )
        self._max_model_len = min(server.settings["max_model_len"] for server in self._servers)
        self.dtype = min(
            server.settings["dtype"] for server in self._servers
        )  # bf16 before float32
        if _rank() == 0:
            self._sender = WeightSender(
                self._servers,
                KINDS[backends.pop()],
                self._bucket_bytes,
                self._sync_timeout_s,
                self._trainer_host,
            )
        self._started = True

    def close(self) -> None:
        """See StartsWithRanks; the servers stay."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        self._started = False
        self._label = None
        self._current = []

    def sleep(self) -> None:
        """Nothing: servers have GPUs of their own."""

    def wake(self) -> None:
        """Nothing: servers are always ready."""

    def replicas(self) -> list[tuple[str, VLLMServerEngine]]:
        """See HasReplicas: each server that took the weights at the last sync. Where one is lost, another one answers."""
        replicas = []
        for server in self._current:
            alone = copy.copy(self)
            alone._servers = [server]
            alone._others = [other for other in self._current if other is not server]
            replicas.append((server.url, alone))
        return replicas

    # Weights

    def check_names(self, names: Collection[str]) -> None:
        """See NamesItsWeights."""
        given = self._all_names(names)
        for server in self._servers:
            if server.is_up:
                try:
                    wanted = set(server.client.ask_workers("rlsd_weight_names", 60.0)[0])
                except (ServerGoneError, RefusedError) as error:
                    server.lose(str(error))
                    continue
                check_weight_names(f"engine: rollout server {server.url}", wanted, given)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See RolloutEngine. Waits for a `generate` in another thread. A server that fails is left out.

        Raises:
            EngineError: a weight is not finite, or no server has taken the weights.
        """
        self._check_started()
        with self._alone():
            tensors = finite(with_tied(named_tensors, self._tied))
            label = f"{uuid.uuid4().hex[:8]}-{version}"
            self._label, self._current = None, []
            _barrier()
            outcome: tuple[str, list[str], dict[str, str]] | None = None
            try:
                if self._sender is not None:
                    outcome = (label, *self._sender.send(tensors, label))
                else:
                    for _ in tensors:
                        pass
            finally:  # the other ranks wait for it, even if this one fails
                outcome = _from_rank_zero(outcome)
            if outcome is None:
                raise EngineError(
                    "engine: rank 0 could not hand the weights over; see its message."
                )
            self._label, current, failed = outcome
            self._take_note(current, failed)

    def _take_note(self, current: list[str], failed: Mapping[str, str]) -> None:
        """Remember which servers have the weights of this sync."""
        for server in self._servers:
            if server.url not in current:
                server.lose(failed[server.url])
                continue
            if not server.is_up:
                log.info("engine: rollout server %s is back.", server.url)
            server.is_up, server.label = True, self._label
            self._current.append(server)
        if not current:
            reasons = "\n".join(f"  {url}: {reason}" for url, reason in failed.items())
            raise EngineError(
                f"engine: no rollout server has taken the weights:\n{reasons}\nLook at the servers' output, start them "
                "again (python -m rlsd_lightning serve-rollouts), and go on from the newest checkpoint."
            )

    # Completions

    def generate_each(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See StreamsCompletions.

        Raises:
            EngineError: a prompt is too long or was refused, an image cannot be read, no server is left, the time is over,
                or log-probs are not finite. Nothing is left running on the servers.
        """
        self._check_ready()
        check_lengths(prompts, sampling, self._max_model_len, "serving.max_model_len")
        requests = [self._request(prompt, sampling, group_size) for prompt in prompts]
        with self._alone(), closing(self._dispatch().answers(requests)) as answers:
            for place, answer in answers:
                prompt = prompts[place]
                check_prompt(prompt, answer["prompt_token_ids"])
                sampled = sorted(answer["choices"], key=lambda choice: choice["index"])
                completions = [self._completion(prompt, choice) for choice in sampled]
                yield place, group_of(completions, group_size)

    def trace(self, prompt: Prompt) -> dict[str, tuple[float, ...]]:
        """See TracesLayers: on one server. Every rank comes here, as one of them must ask alone."""
        self._check_ready()
        seen: dict[str, list[float]] | None = None
        try:
            if _rank() == 0:
                seen = self._trace(prompt)
        finally:
            seen = _from_rank_zero(seen)
        if seen is None:
            raise EngineError(
                "engine: rank 0 could not look into a rollout server; see its message."
            )
        return {name: tuple(sums) for name, sums in seen.items()}

    def _trace(self, prompt: Prompt) -> dict[str, list[float]]:
        """Look at one server, with caches left out."""
        alone = copy.copy(self)
        alone._servers = [server for server in self._servers if server.is_up][:1]
        alone._others = []
        if not alone._servers:
            raise EngineError("engine: no rollout server is left to be looked into.")
        client = alone._servers[0].client
        try:
            for cache in ("prefix", "encoder"):
                client.post(f"/reset_{cache}_cache")
            client.ask_workers("rlsd_start_trace")
            try:
                alone.generate([prompt], Sampling(max_completion_tokens=1), 1)
            finally:
                seen = client.ask_workers("rlsd_end_trace")[0]
        except (ServerGoneError, RefusedError) as error:
            raise EngineError(f"engine: rollout server {client.url}: {error}") from error
        return seen

    def _dispatch(self) -> Dispatch:
        assert self._label is not None, "checked before"
        turn = _rank() % len(self._servers)  # ranks begin with different servers
        return Dispatch(
            self._servers[turn:] + self._servers[:turn],
            self._others,
            self._label,
            requests_per_server=self._requests_per_server,
            request_timeout_s=self._request_timeout_s,
            timeout_s=self._generate_timeout_s,
        )

    def _request(self, prompt: Prompt, sampling: Sampling, group_size: int) -> Request:
        """Return what a server is asked for a prompt; images are written as PNG when its turn has come."""
        settings = sampling_settings(self._vocabulary, prompt, sampling, group_size)
        body = {
            "token_ids": collapsed_ids(self._vocabulary, prompt),
            "sampling_params": settings,
            "return_token_ids": True,
            "cache_salt": self._label,
        }
        label = self._label

        def make() -> dict[str, Any]:
            if not prompt.images:
                return body
            # Under the label an image's features cannot be those of older weights, whatever is forgotten to reset.
            parts = [
                {"type": "image_url", "url": _as_url(picture), "uuid": f"{image.key}-{label}"}
                for image, picture in zip(prompt.images, pictures(prompt), strict=True)
            ]
            return body | {"content_parts": parts}

        return Request(problem_id=prompt.id, body=make)

    def _completion(self, prompt: Prompt, choice: dict[str, Any]) -> Completion:
        token_ids = choice["token_ids"]
        logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
        if any(logprob <= _NOT_A_NUMBER for logprob in logprobs):
            error = not_finite(prompt, self._label)
            self._forget_values()
            raise error
        return Completion(
            token_ids=token_ids,
            logprobs=logprobs,
            text=self._tokenizer.decode(token_ids, skip_special_tokens=True),
            finish_reason="stop" if choice["finish_reason"] == "stop" else "length",
            weight_versions=tuple(
                sorted({_version(span["version"]) for span in choice["weight_versions"] or ()})
            ),
        )

    # What can go wrong

    def _forget_values(self) -> None:
        """Overwrite what caches hold: a NaN would spoil later requests. Weights are needed again before the next ones."""
        self._label = None
        for server in self._servers:
            with suppress(ServerGoneError, RefusedError):
                server.client.ask_workers("rlsd_clear_kv_cache")

    def _check_started(self) -> None:
        if not self._started:
            raise EngineError("engine: was not started. Call start() once the ranks are up.")

    def _check_ready(self) -> None:
        self._check_started()
        if self._label is None:
            raise EngineError(
                "engine: the rollout servers do not have the policy's weights. Needed: a sync "
                "(callbacks.weight_sync) before the first rollouts and after every failure."
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep weights from changing while completions are sampled."""
        if not self._in_use.acquire(timeout=self._generate_timeout_s):
            raise EngineError(
                f"engine: a generate in another thread has not ended in {self._generate_timeout_s:g} s "
                "(engine.generate_timeout_s)."
            )
        try:
            yield
        finally:
            self._in_use.release()

    def _faults(self, server: RolloutServer, deadline: float) -> Iterator[str]:
        """Yield what keeps a server from being used."""
        client = server.client
        if not client.is_healthy():
            log.info("Waiting for rollout server %s.", server.url)
        while not client.is_healthy():
            if time.monotonic() > deadline:
                yield f"{server.url}: is not there (waited for engine.start_timeout_s: {self._start_timeout_s:g} s)"
                return
            time.sleep(0.5)
        try:
            server.settings = client.ask_workers("rlsd_settings")[0]
        except ServerGoneError as error:
            yield f"{server.url}: {error}"
            return
        except RefusedError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                yield f"{server.url}: its routes for training are off (VLLM_SERVER_DEV_MODE=1 turns them on)"
            else:
                yield (
                    f"{server.url}: its workers do not know this package (--worker-extension-cls "
                    "rlsd_lightning.engines.vllm_worker.RolloutWorker)"
                )
            return
        backend, mode = server.settings["backend"], server.settings["logprobs_mode"]
        if backend not in KINDS:
            yield f"{server.url}: weight transfer is by {backend}; needed is {' or '.join(KINDS)}"
        if mode != self._logprobs_mode:
            yield (
                f"{server.url}: log-probs are {mode}; rollout.sampling.temperature needs {self._logprobs_mode} "
                "(serve-rollouts sets it from the same key)"
            )
        if GENERATE not in client.get("/openapi.json")["paths"]:
            yield f"{server.url}: {GENERATE} is off (--enable-scale-out turns it on)"


def _as_url(picture: Image.Image) -> str:
    """Return an image as a data URL; PNG keeps every pixel."""
    written = io.BytesIO()
    picture.save(written, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def _version(label: str) -> int:
    """Return the optimizer steps that weights have seen.

    Example:
        >>> _version("1f0c9a2b-17")
        17
    """
    return int(label.rpartition("-")[2])


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_initialized() else 0


def _barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _from_rank_zero(value: Any) -> Any:
    """Return what rank zero has."""
    if not torch.distributed.is_initialized():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
