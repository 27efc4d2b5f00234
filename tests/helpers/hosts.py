"""Two hosts on this machine: network namespaces that see each other over a cable, and nothing else."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Host:
    """A network namespace with one interface."""

    def __init__(self, name: str, address: str, interface: str) -> None:
        self.name = name
        self.address = address
        self.interface = interface

    def start(self, words: list[str], log: Path, folder: Path) -> subprocess.Popen:
        """Start a command on this host, in a folder; what it says goes into a file."""
        environment = os.environ | {
            "GLOO_SOCKET_IFNAME": self.interface,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(folder),
        }
        with log.open("w") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *words],
                cwd=folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """End everything that runs on this host, at once, as when its power fails."""
        for pid in _ip("netns", "pids", self.name).stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    def pull_the_cable(self) -> None:
        """Cut the network without a word to anybody."""
        _ip("-n", self.name, "link", "set", self.interface, "down")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts; skip the test, with the reason, where this machine does not allow it."""
    names = [f"rlsd{os.getpid()}{letter}" for letter in "ab"]
    ends = [f"rv{os.getpid()}{letter}" for letter in "ab"]
    hosts = tuple(
        Host(name, f"10.213.7.{number}", end)
        for number, (name, end) in enumerate(zip(names, ends, strict=True), start=1)
    )
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
            _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for host in hosts:
                _ip("link", "set", host.interface, "netns", host.name)
                _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.interface)
                _ip("-n", host.name, "link", "set", host.interface, "up")
                _ip("-n", host.name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"no network namespaces here: {reason.strip()}")
        yield hosts
    finally:
        for host in hosts:
            if Path("/run/netns", host.name).exists():
                host.kill()
                _ip("netns", "del", host.name)


def _ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)
