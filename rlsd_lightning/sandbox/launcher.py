"""The process that starts everything inside: one per response, small, trusted, and gone with whoever asked for it.

It runs nothing of what it is given itself. For every program it forks a process, which takes its descriptors, confines
itself (confine.py) and only then becomes the program. It reports every exit, kills what it is told to kill, and ends,
with all that it started, when its control socket closes or its parent is gone.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

from rlsd_lightning.sandbox import programs  # noqa: F401  so that every fork of this process has it loaded
from rlsd_lightning.sandbox.confine import confine
from rlsd_lightning.sandbox.linux import die_with, unmount
from rlsd_lightning.sandbox.namespaces import isolate

TYPE_CHECKING = False  # as in typing, which takes long to load
if TYPE_CHECKING:
    from typing import Any, NoReturn

_MAX_ORDER_BYTES = 2**16
_CHANNEL = 3
_PYTHON = {
    "program": ("programs", "run_program"),
    "functions": ("programs", "serve_functions"),
    "tests": ("tester", "run_tests"),
}
"""What runs without becoming another program: forking this process is faster than starting Python anew."""


def main(control_descriptor: int, parent: int, folder: str) -> None:
    """Serve until the other end closes.

    Args:
        control_descriptor: of the control socket, inherited.
        parent: id of the process that asked.
        folder: where programs may write.
    """
    die_with(parent, signal.SIGTERM)
    left = isolate(folder)
    first = os.fork() if "processes" in left else None
    if first:
        os.close(control_descriptor)
        signal.signal(signal.SIGTERM, lambda *_: _kill(first))
        os.waitpid(first, 0)
    else:
        if first == 0:
            die_with(0, signal.SIGKILL)  # which is how a parent in another namespace reads
        gc.disable()
        with socket.socket(fileno=control_descriptor) as control:
            _Launcher(control, folder, left).serve()
    if first != 0:
        _remove(folder, is_mount="folder" in left)
    os._exit(0)


def _remove(folder: str, is_mount: bool) -> None:
    """Remove the folder, as whoever made it may have been killed."""
    try:
        if is_mount:
            unmount(folder)
        os.rmdir(folder)
    except OSError:  # not empty, where it could not be made in memory
        os.execve("/bin/rm", ["rm", "-rf", "--", folder], {})


class _Launcher:
    def __init__(self, control: socket.socket, folder: str, left: list[str]) -> None:
        self._control = control
        self._folder = folder
        self._left = left
        self._running: dict[int, int] = {}  # number by process id
        self._ending = False

    def serve(self) -> None:
        wake, woken_by = os.pipe()
        os.set_blocking(woken_by, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGTERM, self._end)
        signal.set_wakeup_fd(woken_by, warn_on_full_buffer=False)
        poll = select.poll()
        for descriptor in (self._control.fileno(), wake):
            poll.register(descriptor, select.POLLIN)
        self._tell(ready=self._left)
        while not self._ending:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if wake in ready:
                os.read(wake, 4096)
            self._report_exits()
            if self._control.fileno() in ready:
                self._obey(wake, woken_by)
        for pid in self._running:
            _kill(pid)
        for pid in self._running:
            os.waitpid(pid, 0)

    def _end(self, _number: int, _frame: object) -> None:
        self._ending = True

    def _obey(self, *own: int) -> None:
        message, descriptors = _receive(self._control)
        if not message:
            self._ending = True
            return
        order = json.loads(message)
        if "kill" in order:
            for pid in [pid for pid, number in self._running.items() if number == order["kill"]]:
                _kill(pid)
            return
        launcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for descriptor in (*own, self._control.detach()):
                os.close(descriptor)
            _become(order, descriptors, self._folder, launcher)
        for descriptor in descriptors:
            os.close(descriptor)
        self._running[pid] = order["number"]

    def _report_exits(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._running:
                _kill(pid)  # what it started and left behind
                self._tell(
                    exited=self._running.pop(pid),
                    code=os.waitstatus_to_exitcode(status),
                    cpu_s=used.ru_utime + used.ru_stime,
                    memory_mb=used.ru_maxrss / 1024,
                )

    def _tell(self, **news: Any) -> None:
        try:
            self._control.send(json.dumps(news).encode())
        except (BrokenPipeError, ConnectionResetError):
            self._ending = True


def _nothing(_number: int, _frame: object) -> None:
    """Handle a signal by waking up."""


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """Return an order and the descriptors that came with it."""
    descriptors = array.array("i")
    message, extra, _, _ = control.recvmsg(_MAX_ORDER_BYTES, socket.CMSG_SPACE(4 * 4))
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data)
    return message, list(descriptors)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _become(order: dict[str, Any], descriptors: list[int], folder: str, launcher: int) -> NoReturn:
    """Turn a fresh fork into the program that was ordered."""
    try:
        os.setsid()
        die_with(launcher, signal.SIGKILL)
        os.chdir(folder)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number, inheritable=number < _CHANNEL)
        os.closerange(len(descriptors), 1024)
        channel = os.fdopen(_CHANNEL, "rb", closefd=False)
        message = json.loads(channel.readline())
        for name, content in message.pop("files", {}).items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(content)
        command = order["command"]
        if command[0] in _PYTHON:
            module, function = _PYTHON[command[0]]
            run = getattr(importlib.import_module(f"rlsd_lightning.sandbox.{module}"), function)
        try:
            confine(folder, **order["confine"])
            if command[0] not in _PYTHON:
                for number in (signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                os.execve(command[0], command, dict(os.environ))  # which closes the channel
        except OSError as error:
            os.write(_CHANNEL, json.dumps({"setup": error.strerror}).encode() + b"\n")
            os._exit(1)
        os.write(_CHANNEL, b'{"setup": "done"}\n')
        gc.enable()
        run(channel, message)
    except BaseException as error:
        sys.__stderr__.write(f"{type(error).__name__}: {error}\n")
        sys.__stderr__.flush()
    os._exit(1)
