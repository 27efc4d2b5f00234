"""What a hostile program must not touch: files, a port, a neighbour, the list of processes; each looked at for real."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Outside:
    """A folder with a canary file, ports that note every visitor, and a process that goes on."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "canary").write_text("42\n")
        self._before = self._files()
        self.visits = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self.sibling = subprocess.Popen(
            [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        )
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.visits.append(self._tcp.accept()[1])

    def _files(self):
        found = {}
        for path in [self.folder, *sorted(self.folder.iterdir())]:
            facts = path.stat()
            content = path.read_bytes() if path.is_file() else b""
            times = facts.st_mtime_ns if path.is_file() else 0
            found[path.name] = content, facts.st_mode, facts.st_uid, facts.st_nlink, times
        return found

    def fill_in(self, program):
        """Give a program the addresses of what it is to attack."""
        named = {"outside": self.folder, "port": self.port, "sibling": self.sibling.pid}
        for name, value in named.items():
            program = program.replace(f"{{{name}}}", str(value))
        return program

    def faults(self):
        """Return what has been touched; nothing if all is as it was."""
        faults = []
        if self._files() != self._before:
            faults.append("files were changed")
        with contextlib.suppress(BlockingIOError):
            self._udp.setblocking(False)
            self.visits.append(self._udp.recv(100))
        if self.visits:
            faults.append(f"visitors came: {self.visits}")
        if self.sibling.poll() is not None or state(self.sibling.pid) not in "SR":
            faults.append("the sibling was hit")
        return faults

    def close(self):
        self._tcp.close()
        self._udp.close()
        self.sibling.kill()
        self.sibling.wait()


def state(pid):
    """The state of a process: R, S, Z (a zombie) ...; empty if there is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def boxed_processes(folder):
    """Processes whose home lies in a folder: those of sandboxes that were made there."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if f"HOME={folder}/".encode() in (path / "environ").read_bytes():
                    found.append(int(path.name))
    return found


def left_behind(folder):
    """Files and processes that sandboxes have left in a folder for temporary files."""
    return [*Path(folder).iterdir(), *boxed_processes(folder)]


def num_open_files():
    return len(os.listdir("/proc/self/fd"))


def use_as_temporary_folder(monkeypatch, folder):
    """Have this process and those it starts make their temporary files in a folder."""
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


_PREAMBLE = f"""
import sys, types
package = types.ModuleType("rlsd_lightning")
package.__path__ = [{str(ROOT / "rlsd_lightning")!r}, {str(ROOT)!r}]
sys.modules["rlsd_lightning"] = package
from rlsd_lightning.sandbox import seccomp
from rlsd_lightning.sandbox.layers import layers, require
from rlsd_lightning.sandbox.linux import PR_SET_NO_NEW_PRIVS, prctl
from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.code import Code

def forbid(*calls, conditions=()):
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    seccomp._install(seccomp._assemble(list(calls), list(conditions)))

def judge(source, **options):
    tests = {{"mode": "stdin_stdout", "inputs": ["1 2"], "outputs": ["3"]}}
    return Code(**options).verify(Problem(id="q", prompt="", extra=tests), f"```\\n{{source}}\\n```")

RIGHT = "print(sum(map(int, input().split())))"
"""


def without_torch(script, python=sys.executable, timeout=60, **options):
    """Run a script in a process of its own, with the sandbox but without torch; returns what it prints."""
    command = [python, "-c", _PREAMBLE + textwrap.dedent(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd="/", **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
