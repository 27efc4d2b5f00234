"""The far side of the verifier pool: a small server process, and the workers that it forks to judge responses.

The server imports and unpickles the verifier once; a worker is a fork of it, ready in milliseconds. It is one process
with one thread and without CUDA, so that forking it is safe whatever the trainer runs. It runs no response itself:
it forks, kills, reaps, and reports exits. When the trainer is gone it kills its workers and ends; when it is gone
itself, Linux kills the workers.

Workers answer in lines of JSON: what judged a hostile response is not trusted with a pickle.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from types import FrameType
from typing import Any

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.sandbox.linux import die_with
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import verify_batch

_PARENT_CHECK_S = 0.5
"""How often the server looks whether the trainer is still there. Its pipe may be held open by other processes that the
trainer forked, so that the end of file alone could come late."""
_NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Sent to every process of a job, but meant for the trainer, which may go on to save its weights."""
_LINUX = sys.platform == "linux"


def serve(descriptor: int, parent: int) -> None:
    """Run the server until the trainer closes its end or is gone.

    Args:
        descriptor: of the control socket, inherited.
        parent: the trainer's process id.
    """
    _Server(Connection(descriptor), parent).run()
    os._exit(0)  # at once: taking down what a verifier has imported would make the trainer wait


class _Server:
    """Does what the trainer orders: load a verifier, fork a worker, kill a worker."""

    def __init__(self, control: Connection, parent: int) -> None:
        self._control = control
        self._parent = parent
        self._verifier: Verifier | None = None
        self._workers: dict[int, int] = {}  # number by process id
        self._wake, self._woken_by = os.pipe()
        for end in (self._wake, self._woken_by):
            os.set_blocking(end, False)
        for number in (signal.SIGCHLD, *_NOT_OURS):
            signal.signal(number, _nothing)
        signal.set_wakeup_fd(self._woken_by, warn_on_full_buffer=False)

    def run(self) -> None:
        try:
            while os.getppid() == self._parent:
                ready = wait([self._control, self._wake], timeout=_PARENT_CHECK_S)
                if self._wake in ready:
                    os.read(self._wake, 4096)
                self._report_exits()
                if self._control in ready:
                    self._obey(*self._control.recv())
        except (EOFError, ConnectionError):
            pass  # the trainer has closed its end
        finally:
            for pid in self._workers:
                _kill_session(pid)
            for pid in self._workers:
                os.waitpid(pid, 0)

    def _obey(self, order: str, *details: Any) -> None:
        if order == "load":
            self._load(*details)
        elif order == "fork":
            self._fork(*details, recv_handle(self._control))
        elif order == "kill":
            for pid in [pid for pid, number in self._workers.items() if number == details[0]]:
                _kill_session(pid)
        else:
            raise AssertionError(f"the trainer orders {order!r}")

    def _load(self, pickled: bytes) -> None:
        try:
            self._verifier = pickle.loads(pickled)
        except (
            Exception
        ) as error:  # whatever a user's module raises when it is imported: told, not judged here
            self._tell(event="refused", reason=f"{type(error).__name__}: {error}")
            return
        gc.collect()
        gc.freeze()  # a collection in a worker would else copy every page that it shares with the server
        self._tell(event="loaded")

    def _fork(self, number: int, memory_mb: int, descriptor: int) -> None:
        server = os.getpid()
        os.set_inheritable(descriptor, False)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(descriptor)
            self._tell(event="refused", reason=f"no process can be started: {error}")
            return
        if pid == 0:
            try:
                self._let_go()
                _work(socket.socket(fileno=descriptor), self._verifier, memory_mb, server)
            finally:
                os._exit(0)
        os.close(descriptor)
        self._workers[pid] = number

    def _let_go(self) -> None:
        """Close in a worker what belongs to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        os.close(self._wake)
        os.close(self._woken_by)

    def _report_exits(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _kill_session(pid)  # what it may have started and left behind
            number = self._workers.pop(pid)
            self._tell(event="exited", number=number, code=os.waitstatus_to_exitcode(status))

    def _tell(self, **news: Any) -> None:
        self._control.send_bytes(json.dumps(news).encode())


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal by doing nothing; unlike SIG_IGN, this does not pass on to programs that a worker starts."""


def _kill_session(pid: int) -> None:
    """Kill a worker and what it started; a worker leads a process group as soon as it runs."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _work(
    connection: socket.socket, verifier: Verifier | None, memory_mb: int, server: int
) -> None:
    """Judge one response after the other, until the trainer closes its end."""
    assert verifier is not None, "forked before a verifier was loaded"
    os.setsid()
    _die_with(server)
    _silence()
    _limit(memory_mb)
    with connection.makefile("rb") as tasks:
        _answer(connection, status="ready")
        while True:
            try:
                problem, response = pickle.load(tasks)
                answer = _judge(verifier, pickle.loads(problem), response)
            except EOFError:
                return
            except MemoryError:
                answer = {"status": "out_of_memory"}
            except Exception as error:
                message = f"verifier: a problem cannot be read by a worker process: {error!r}."
                answer = _fault("RuntimeError", message)
            _answer(connection, **answer)


def _judge(verifier: Verifier, problem: Problem, response: str) -> dict[str, Any]:
    """Return the verdict in plain types, or what came instead of it."""
    where = f"{type(verifier).__name__} on {problem.place}"
    try:
        [verdict] = verify_batch(verifier, [problem], [response])
    except (ValueError, RuntimeError) as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        return _fault(type(error).__name__, str(error))
    except MemoryError:
        raise
    except (
        BaseException
    ) as error:  # SystemExit, or a verifier's own way to break off: in this process, a fault
        message = f"verifier: {where} raised {type(error).__name__}: {error}. A verifier judges any text; mend it."
        return _fault("RuntimeError", message)
    try:
        return {"status": "judged", "verdict": _plain(verdict)}
    except (AttributeError, TypeError, ValueError) as error:
        message = f"verifier: {where} returned {verdict!r}, but parts are numbers by name ({error}). Mend it."
        return _fault("RuntimeError", message)


def _fault(error: str, message: str) -> dict[str, Any]:
    return {
        "status": "error",
        "error": error,
        "message": message,
        "trace": traceback.format_exc(),
    }


def _plain(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict in types that JSON knows; what a verifier computed with NumPy becomes plain numbers."""
    return {
        "reward": float(verdict.reward),
        "correct": bool(verdict.correct),
        "valid": bool(verdict.valid),
        "parts": {str(name): float(value) for name, value in verdict.parts.items()},
        "reason": str(verdict.reason),
    }


def _answer(connection: socket.socket, **answer: Any) -> None:
    connection.sendall(json.dumps(answer).encode() + b"\n")


def _die_with(server: int) -> None:
    """End together with the server, even inside a long call; elsewhere than on Linux, the server sees to it."""
    if _LINUX:
        die_with(server, signal.SIGKILL)
    elif os.getppid() != server:
        os._exit(1)


def _silence() -> None:
    """Send what is printed while judging nowhere: a response must not be able to fill the log."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _limit(memory_mb: int) -> None:
    """Allow so much address space beyond what the process has now (Linux), and no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not _LINUX:
        return
    with open("/proc/self/statm", encoding="ascii") as pages:
        now = int(pages.read().split()[0]) * resource.getpagesize()
    limit = now + memory_mb * 2**20
    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    if highest != resource.RLIM_INFINITY:
        limit = min(limit, highest)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
