"""Real rollout servers, started as a user starts them, and what is left of them."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

READY_S = 240


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """`python -m rlsd_lightning serve-rollouts` for a tiny model, in a folder of its own."""

    def __init__(self, model, folder, port=None):
        self.model, self.folder = model, Path(folder)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder.mkdir(exist_ok=True)
        words = (
            "experiment=none",
            f"model.path={model}",
            "trainer.precision=32-true",  # the tests compare exactly
            f"serving.port={self.port}",
            "serving.max_model_len=768",
            "serving.kv_cache_gb=0.03",
            "serving.max_num_seqs=64",
        )
        self.log = self.folder / f"{self.port}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rlsd_lightning", "serve-rollouts", *words],
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes = set()

    def wait(self):
        """Wait until it has said that it is ready; remember its processes."""
        deadline = time.monotonic() + READY_S
        while "The rollout server is ready" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.3)
        self._processes = descendants(self.process.pid)
        return self

    @property
    def api_server(self):
        """The process that answers HTTP."""
        [child] = children(self.process.pid)
        return child

    def kill(self):
        """Kill the process that answers HTTP, as the system would one that takes too much memory."""
        os.kill(self.api_server, signal.SIGKILL)

    def end(self, number=signal.SIGTERM):
        """End it as a user or a cluster does; return the exit status."""
        self.tell(number)
        return self.process.wait(60)

    def tell(self, number=signal.SIGTERM):
        """Send it a signal, if it is still there."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def left(self):
        """The processes that are still there, some seconds after it has ended."""
        deadline = time.monotonic() + 15
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        return self._alive()

    def _alive(self):
        return {pid for pid in self._processes if state(pid) not in ("", "Z")}

    def num_running(self):
        """Requests that vLLM is working on or has in its queue."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        counted = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
        return sum(float(line.split()[-1]) for line in lines if line.startswith(counted))


def state(pid):
    """What Linux says a process does: "R", "S", "Z", ...; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid):
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


def descendants(pid):
    below = set(children(pid))
    return below.union(*(descendants(child) for child in below))
