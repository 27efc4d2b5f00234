"""The launcher as its parent sees it: a process with a control socket, started once per room."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
"""How long the launcher may take to start, or to do what it is told; a fraction of a second as a rule."""
_PACKAGE = Path(__file__).parents[1]
_START = (
    "import sys, types\n"
    "package = types.ModuleType('rlsd_lightning')\n"
    "package.__path__ = [sys.argv[1]]\n"
    "sys.modules['rlsd_lightning'] = package\n"  # without its __init__, which loads torch
    "from rlsd_lightning.sandbox.launcher import main\n"
    "main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])\n"
)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # sets in the same order in every run
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_MAX_NEWS_BYTES = 2**16


class SandboxError(RuntimeError):
    """The sandbox itself did not work; nothing is to be blamed on what was to run in it."""


class LauncherProcess:
    """A running launcher.

    Args:
        folder: where its programs may write; it removes the folder at its end.

    Raises:
        SandboxError: it does not start.
    """

    def __init__(self, folder: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(_PACKAGE), str(theirs.fileno()), str(os.getpid()), folder]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-S", "-X", "utf8", "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT | {"HOME": folder, "TMPDIR": folder},
                start_new_session=True,
            )
        self._control.settimeout(PATIENCE_S)
        try:
            self.namespaces: list[str] = self.news()["ready"]
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that is ready when there are news."""
        return self._control.fileno()

    def order(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Tell it what to do.

        Args:
            order: what.
            descriptors: to hand over with it.

        Raises:
            SandboxError: it is gone.
        """
        try:
            socket.send_fds(self._control, [json.dumps(order).encode()], list(descriptors))
        except OSError:
            raise self.lost() from None

    def news(self) -> dict[str, Any]:
        """Return what it has to say next.

        Raises:
            SandboxError: it is gone, or says nothing for too long.
        """
        try:
            news = self._control.recv(_MAX_NEWS_BYTES)
        except OSError:
            news = b""
        if not news:
            raise self.lost()
        return json.loads(news)

    def lost(self) -> SandboxError:
        """End what is left of it, and return the error that says so."""
        self._kill()
        code = self._process.wait()
        assert self._process.stderr is not None
        said = self._process.stderr.read(4096).decode(errors="replace").strip()
        return SandboxError(
            f"sandbox: its launcher ended by itself (exit code {code}{': ' if said else ''}{said[-500:]}), but it must "
            f"stay. Look for a lack of memory or of processes, and start the run again."
        )

    def close(self) -> None:
        """Have it end all its programs and itself, and wait until it has."""
        self._control.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
