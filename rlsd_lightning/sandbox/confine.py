"""What a process does to itself before it runs what nobody trusts. There is no way back from any of it."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import sys
from collections.abc import Callable

from rlsd_lightning.sandbox import landlock, seccomp
from rlsd_lightning.sandbox.linux import PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, call, prctl

SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SETTINGS = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/ssl/openssl.cnf")
_MB = 2**20
_MAX_FILE_MB = 8
_MAX_OPEN_FILES = 64
_STACK_MB = 64
_CAPABILITIES = 64
_HEADER_VERSION = 0x20080522


def confine(
    folder: str,
    *,
    time_s: float,
    memory_mb: int,
    readable: list[str],
    executable: list[str],
    reserves_memory: bool = False,
    forks: bool = False,
    unsafe: bool = False,
) -> None:
    """Give up what this process must not have; see docs/sandbox.md for what each layer stops.

    Args:
        folder: its working folder, the only one that it may write to.
        time_s: processor time.
        memory_mb: address space.
        readable: files and folders beyond the system's libraries and Python's.
        executable: programs that it may become; none leaves it as it is.
        reserves_memory: it reserves address space that it does not use, so its data is what is counted.
        forks: it may start processes (a compiler does).
        unsafe: go on where a layer cannot be had.

    Raises:
        OSError: a layer cannot be had, and `unsafe` does not allow that.
    """
    readable = [*SYSTEM, *DEVICES, *SETTINGS, *_python(), *readable]
    layers: list[Callable[[], None]] = [
        lambda: prctl(PR_SET_NO_NEW_PRIVS, 1),
        _drop_capabilities,
        lambda: landlock.restrict(readable, [folder, "/dev/null"], executable),
        lambda: seccomp.forbid(os.getpid(), starts_programs=bool(executable), forks=forks),
    ]
    _limit(time_s, memory_mb, reserves_memory)
    for layer in layers:
        try:
            layer()
        except OSError:
            if not unsafe:
                raise


def _python() -> list[str]:
    """Return where this interpreter's standard library and its shared libraries lie."""
    roots = {sys.base_prefix, sys.base_exec_prefix}
    return [f"{root}/{name}" for root in roots for name in {"lib", sys.platlibdir}]


def _drop_capabilities() -> None:
    """Have no privilege of root's, though the user may be root."""
    try:
        for capability in range(_CAPABILITIES):
            prctl(PR_CAPBSET_DROP, capability)
    except OSError:  # not root, or no more capabilities
        pass
    header = (ctypes.c_uint32 * 2)(_HEADER_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    call("capset", ctypes.byref(header), ctypes.byref(nothing))


def _limit(time_s: float, memory_mb: int, reserves_memory: bool) -> None:
    """Hold this process, and what it becomes, to its limits; at the end of its time the kernel ends it."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, math.ceil(time_s)),
        (resource.RLIMIT_FSIZE, _MAX_FILE_MB * _MB),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_DATA if reserves_memory else resource.RLIMIT_AS, memory_mb * _MB),
    ):
        _, highest = resource.getrlimit(kind)
        value = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(kind, (value, value))
    _, highest = resource.getrlimit(resource.RLIMIT_STACK)
    stack = _STACK_MB * _MB if highest == resource.RLIM_INFINITY else min(_STACK_MB * _MB, highest)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, highest))  # memory bounds it, too
