"""A closed room for the programs of one response, seen from outside: start them, hear them, end them.

Everything that comes out is data of bounded size; whatever does not end by itself is killed at its deadline; when the
room is closed nothing of it is left: no process, no file, no descriptor.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from rlsd_lightning.sandbox.launching import PATIENCE_S, LauncherProcess, SandboxError
from rlsd_lightning.sandbox.limits import MB, Limits

_CHUNK = 2**16
_MAX_MESSAGE_BYTES = 8 * MB
_MAX_WAITING = 100
"""A program that sends a longer message, or more of them than anybody asked for, is ended."""


@dataclass(slots=True, kw_only=True)
class Program:
    """One program inside, and what has come of it so far."""

    number: int
    deadline: float
    """By the monotonic clock."""
    limits: Limits
    channel: socket.socket
    nonce: str
    becomes_another: bool
    """It is set up when it has become another program, which closes its channel; else, when it says so."""
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    messages: deque[dict[str, Any]] = field(default_factory=deque)
    ended: bool = False
    code: int = 0
    """Exit code; negative for a signal's number."""
    killed: Literal["", "time", "output"] = ""
    """Why it was ended from outside."""
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    """The most that it had resident."""
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    is_set_up: bool = False

    @property
    def out_of_time(self) -> bool:
        """Whether it took longer than it may."""
        by_kernel = self.code == -signal.SIGKILL and self.cpu_s > 0.9 * self.limits.time_s
        return self.killed == "time" or self.cpu_s > self.limits.time_s or by_kernel


class Box:
    """A room with its own folder; programs run in it one after the other or side by side.

    Args:
        total_s: when everything in it must have ended.
        unsafe: run programs even where a layer of the sandbox cannot be had.
    """

    def __init__(self, total_s: float, *, unsafe: bool = False) -> None:
        self.deadline = time.monotonic() + total_s
        self._unsafe = unsafe
        self._programs: dict[int, Program] = {}
        self._sources: dict[int, tuple[Program, str]] = {}
        self._poll = select.poll()
        self._num_started = 0

    def __enter__(self) -> Box:
        self.folder = tempfile.mkdtemp(prefix="rlsd-box-")
        try:
            self._launcher = LauncherProcess(self.folder)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._poll.register(self._launcher.fileno(), select.POLLIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def namespaces(self) -> list[str]:
        """Which namespaces its programs are in."""
        return self._launcher.namespaces

    @property
    def is_late(self) -> bool:
        """Whether the time for everything is over."""
        return time.monotonic() >= self.deadline

    def start(
        self,
        command: Sequence[str],
        limits: Limits,
        *,
        message: dict[str, Any],
        stdin: bytes = b"",
        readable: Sequence[str] = (),
        executable: Sequence[str] = (),
        reserves_memory: bool = False,
        forks: bool = False,
    ) -> Program:
        """Start a program.

        Args:
            command: ["program" | "functions" | "tests"] for Python, or an executable with its arguments.
            limits: what it may use up.
            message: the first thing that it gets on its channel; "files" in it are written to its folder.
            stdin: its standard input.
            readable: files and folders that it may read beyond libraries.
            executable: programs that it may become.
            reserves_memory: see limits.apply_limits.
            forks: it may start processes.

        Raises:
            SandboxError: it cannot be started.
        """
        self._num_started += 1
        number, nonce = self._num_started, secrets.token_hex(16)
        confine = {
            "time_s": limits.time_s,
            "memory_mb": limits.memory_mb,
            "readable": list(readable),
            "executable": list(executable),
            "reserves_memory": reserves_memory,
            "forks": forks,
            "unsafe": self._unsafe,
        }
        order = {"number": number, "command": list(command), "confine": confine}
        with contextlib.ExitStack() as theirs:
            given = os.memfd_create("stdin")
            theirs.callback(os.close, given)
            _write_all(given, stdin)
            os.lseek(given, 0, os.SEEK_SET)
            channel, its_channel = socket.socketpair()
            theirs.enter_context(its_channel)
            readers, descriptors = [], [given]
            for _ in range(2):
                reader, writer = os.pipe()
                theirs.callback(os.close, writer)
                readers.append(reader)
                descriptors.append(writer)
            program = Program(
                number=number,
                deadline=min(time.monotonic() + limits.wall_s, self.deadline),
                limits=limits,
                channel=channel,
                nonce=nonce,
                becomes_another=bool(executable),
            )
            self._listen_to(program, readers)
            self._launcher.order(order, [*descriptors, its_channel.fileno()])
        self.send(program, nonce=nonce, **message)
        return program

    def send(self, program: Program, **message: Any) -> None:
        """Send a program a message."""
        program.unsent += json.dumps(message).encode() + b"\n"
        self._write(program)

    def receive(self, program: Program) -> dict[str, Any] | None:
        """Return a program's next message; None if it has ended without one.

        Args:
            program: to wait for, as long as its deadline lets it live.
        """
        while not program.messages and not program.ended:
            self._step()
        return program.messages.popleft() if program.messages else None

    def wait(self, program: Program) -> Program:
        """Return a program once it has ended, by itself or at its deadline."""
        while not program.ended:
            self._step()
        return program

    def end(self, program: Program) -> None:
        """End a program from which nothing more is wanted."""
        if not program.ended:
            self._launcher.order({"kill": program.number})
            self.wait(program)

    def close(self) -> None:
        """End everything and leave nothing behind."""
        self._launcher.close()
        for descriptor in list(self._sources):
            self._forget(descriptor)
        for program in self._programs.values():
            program.channel.close()
        # The launcher has done so, unless it was killed.
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen_to(self, program: Program, readers: Sequence[int]) -> None:
        self._programs[program.number] = program
        for name, descriptor in zip(("stdout", "stderr"), readers, strict=True):
            self._sources[descriptor] = program, name
            self._poll.register(descriptor, select.POLLIN)
        program.channel.setblocking(False)
        self._sources[program.channel.fileno()] = program, "channel"
        self._poll.register(program.channel.fileno(), select.POLLIN)

    def _step(self) -> None:
        """Wait until something happens or a deadline passes, and take note of it."""
        living = [program for program in self._programs.values() if not program.ended]
        pause = min(program.deadline for program in living) - time.monotonic()
        for descriptor, event in self._poll.poll(max(0.0, pause) * 1000 + 1):
            if descriptor == self._launcher.fileno():
                self._note(self._launcher.news())
            elif descriptor in self._sources:
                program, name = self._sources[descriptor]
                if name == "channel" and event & select.POLLOUT:
                    self._write(program)
                self._read(descriptor)
        now = time.monotonic()
        for program in living:
            if not program.ended and not program.killed and now >= program.deadline:
                self._kill(program, "time")
            elif not program.ended and now >= program.deadline + PATIENCE_S:
                raise self._launcher.lost()

    def _note(self, news: dict[str, Any]) -> None:
        """Take note of an exit; what a program wrote before it is read to the end."""
        program = self._programs.pop(news["exited"])
        program.code, program.cpu_s = news["code"], news["cpu_s"]
        program.memory_mb = news["memory_mb"]
        for descriptor in [d for d, (owner, _) in self._sources.items() if owner is program]:
            os.set_blocking(descriptor, False)
            while self._read(descriptor):
                pass
            if descriptor in self._sources:
                self._forget(descriptor)
        program.channel.close()
        program.ended = True
        if not program.is_set_up:
            said = program.stderr.decode(errors="replace").strip()
            raise SandboxError(
                f"sandbox: a program could not be started ({said[-300:] or f'exit code {program.code}'}), but it must run to "
                f"be judged. Look for a lack of memory or of processes, and start the run again."
            )

    def _read(self, descriptor: int) -> bool:
        """Read what a program has written; False if there is nothing more for now."""
        program, name = self._sources[descriptor]
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            program.is_set_up |= name == "channel" and program.becomes_another
            self._forget(descriptor)
        elif name == "channel":
            self._hear(program, data)
        else:
            self._keep(program, program.stdout if name == "stdout" else program.stderr, data)
        return bool(data)

    def _keep(self, program: Program, kept: bytearray, data: bytes) -> None:
        kept += data
        if len(kept) > program.limits.output_bytes:
            del kept[program.limits.output_bytes :]
            self._kill(program, "output")

    def _hear(self, program: Program, data: bytes) -> None:
        """Take messages; whoever sends one without the nonce is not the harness, and is ended."""
        program.received += data
        lines: list[bytearray] = []
        if b"\n" in data:
            *lines, program.received = program.received.split(b"\n")
        for line in lines:
            if program.killed:
                return
            message = _read_message(line)
            if not program.is_set_up:
                self._check_set_up(program, message)
            elif message.pop("nonce", None) == program.nonce:
                program.messages.append(message)
            else:
                self._kill(program, "output")
        if len(program.received) > _MAX_MESSAGE_BYTES or len(program.messages) > _MAX_WAITING:
            self._kill(program, "output")

    def _check_set_up(self, program: Program, message: dict[str, Any]) -> None:
        if message.get("setup") != "done":
            raise SandboxError(
                f"sandbox: a program could not be shut in or started ({message.get('setup')}), but programs that "
                f"nobody trusts need every layer. Use a machine or container that allows it; see docs/sandbox.md."
            )
        program.is_set_up = True

    def _write(self, program: Program) -> None:
        try:
            while program.unsent:
                del program.unsent[: program.channel.send(program.unsent[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:  # it has ended or closed its end: its exit comes next
            program.unsent.clear()
        wanted = select.POLLIN | (select.POLLOUT if program.unsent else 0)
        if program.channel.fileno() in self._sources:
            self._poll.modify(program.channel.fileno(), wanted)

    def _kill(self, program: Program, reason: Literal["time", "output"]) -> None:
        if not program.killed and not program.ended:
            program.killed = reason
            self._launcher.order({"kill": program.number})

    def _forget(self, descriptor: int) -> None:
        """Listen to a descriptor no more, and close it if it is a pipe of ours."""
        _, name = self._sources.pop(descriptor)
        self._poll.unregister(descriptor)
        if name != "channel":
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_message(line: bytearray) -> dict[str, Any]:
    """Return a message; an empty one where there is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
