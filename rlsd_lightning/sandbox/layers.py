"""Which layers of the sandbox are on, found out by trying to get through each of them.

The probe runs as any program does and tries for real: to reach a port that listens, to write to and read from a folder
outside, to start a process, to become another program, to signal its judge, to take more memory than it may.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rlsd_lightning.sandbox import landlock
from rlsd_lightning.sandbox.box import Box
from rlsd_lightning.sandbox.limits import Limits

_PROBE_S = 10
_PROBE_MB = 256
_PROBE = """
import ctypes, json, os, socket, sys
asked = json.loads(sys.stdin.read())

def reach(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(2)
        made.connect(address)

def send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", address)

def write():
    with open(asked["folder"] + "/written", "w") as file:
        file.write("x")

def read():
    with open(asked["folder"] + "/secret") as file:
        file.read()

def fork():
    if os.fork() == 0:
        os._exit(0)

def try_all(*attempts):
    for attempt in attempts:
        try:
            attempt()
        except (OSError, MemoryError):
            continue
        return True
    return False

tcp, unix = ("127.0.0.1", asked["port"]), "\\0" + asked["name"]
open_ways = {
    "network": try_all(lambda: reach(socket.AF_INET, tcp), lambda: reach(socket.AF_UNIX, unix), lambda: send(tcp)),
    "writing": try_all(write, lambda: os.chmod(asked["folder"], 0o755)),
    "reading": try_all(read, lambda: os.listdir(asked["folder"])),
    "processes": try_all(fork),
    "signals": try_all(lambda: os.kill(asked["pid"], 0)),
    "memory": try_all(lambda: bytearray(asked["bytes"])),
}
filtered = ctypes.CDLL(None).prctl(21, 0, 0, 0, 0) == 2  # PR_GET_SECCOMP
print(json.dumps({"open": [name for name, way in open_ways.items() if way], "seccomp": filtered}))
"""
ALL = ("network", "writing", "reading", "processes", "signals", "memory")
NEEDED = ("network", "writing", "reading")
_MEANING = {
    "network": "open connections",
    "writing": "change files outside its folder",
    "reading": "read any file",
    "processes": "start processes",
    "signals": "signal other processes",
    "memory": "take any amount of memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What the self-test found."""

    open: tuple[str, ...]
    """Of ALL, the ways that a program could go."""
    mechanisms: tuple[str, ...]
    """What closes the others, as far as this machine has it."""

    def describe(self) -> str:
        """Return one line for a person.

        Example:
            >>> Layers(open=("memory",), mechanisms=("seccomp",)).describe()
            'blocks network, writing, reading, processes, signals (by seccomp); open: memory'
        """
        closed = ", ".join(name for name in ALL if name not in self.open) or "nothing"
        by = f" (by {', '.join(self.mechanisms)})" if self.mechanisms else ""
        return f"blocks {closed}{by}; open: {', '.join(self.open) or 'none'}"


def require(*, unsafe: bool) -> Layers:
    """Return the layers if programs that nobody trusts may be run behind them.

    Args:
        unsafe: the user takes the risk.

    Raises:
        ValueError: too much is open.
    """
    if sys.platform != "linux":
        raise ValueError(
            f"sandbox: this is {sys.platform}, but untrusted programs are run on Linux only. Run there, or choose a "
            f"verifier that runs no programs."
        )
    found = layers()
    lacking = [name for name in NEEDED if name in found.open]
    if lacking and not unsafe:
        could = " and ".join(_MEANING[name] for name in lacking)
        raise ValueError(
            f"sandbox: on this machine a program could {could}: the self-test {found.describe()}. Untrusted programs "
            f"need Landlock (Linux 5.13 or later) and seccomp, in a container that allows both. Run on such a machine, or, "
            f"if nothing here is worth protecting, set sandbox.unsafe=true."
        )
    return found


@functools.cache
def layers() -> Layers:
    """Find out, once per process, what a program in the sandbox cannot do.

    Raises:
        SandboxError: the probe did not run.
    """
    with contextlib.ExitStack() as outside:
        folder = outside.enter_context(tempfile.TemporaryDirectory(prefix="rlsd-probe-"))
        Path(folder, "secret").write_text("secret", encoding="utf-8")
        name = f"{Path(folder).name}-{os.getpid()}"
        tcp = outside.enter_context(socket.create_server(("127.0.0.1", 0)))
        unix = outside.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(f"\0{name}")
        unix.listen()
        asked = {
            "folder": folder,
            "port": tcp.getsockname()[1],
            "name": name,
            "pid": os.getpid(),
            "bytes": 2 * _PROBE_MB * 2**20,
        }
        return _probe(asked)


def _probe(asked: dict[str, object]) -> Layers:
    limits = Limits(time_s=_PROBE_S, memory_mb=_PROBE_MB)
    with Box(2 * _PROBE_S, unsafe=True) as box:
        namespaces = box.namespaces
        message = {"source": _PROBE, "paths": []}
        stdin = json.dumps(asked).encode()
        probe = box.wait(box.start(["program"], limits, message=message, stdin=stdin))
    if probe.code:
        raise RuntimeError(
            f"sandbox: its self-test broke down ({probe.stderr.decode(errors='replace')[-300:]}), but it must end "
            f"with a report. Look for a broken Python installation."
        )
    report = json.loads(probe.stdout)
    mechanisms = ["seccomp"] if report["seccomp"] else []
    with contextlib.suppress(OSError):
        mechanisms.append(f"Landlock {landlock.version()}")
    if namespaces:
        mechanisms.append(f"namespaces for {', '.join(namespaces)}")
    return Layers(open=tuple(report["open"]), mechanisms=tuple(mechanisms))
