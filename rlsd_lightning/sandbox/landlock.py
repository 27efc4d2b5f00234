"""Landlock: which files a process may read, write and execute, and that it opens no TCP connection.

The kernel's own documentation: docs.kernel.org/userspace-api/landlock.html. Needs no privilege; Linux 5.13 or later.
Rules hold for the process and all that it starts, for good. What Landlock does not see (metadata of files, changes of
mode, owner and times) is the business of seccomp.py.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from rlsd_lightning.sandbox.linux import call

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_REG, TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_RIGHTS_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
_READ = READ_FILE | READ_DIR
_WRITE = WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
_FILE_RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NETWORK_FROM, _TCP = 4, 0b11  # bind and connect
_SCOPES_FROM, _SCOPES = 6, 0b11  # abstract unix sockets and signals of other processes
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that the kernel speaks.

    Raises:
        OSError: none.
    """
    return call("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))


def restrict(
    readable: Iterable[str], writable: Iterable[str] = (), executable: Iterable[str] = ()
) -> None:
    """Take every file but these away from this process, and TCP where the kernel can.

    no_new_privs must be set.

    Args:
        readable: files and folders that may be read, with all beneath; what is not there is left out.
        writable: folders in which files may be made, changed and removed; no folders, as a million of them, each in the
            last, take long to clear away.
        executable: files and folders that may be read and executed.

    Raises:
        OSError: it could not be done.
    """
    known = version()
    handled = _FILE_RIGHTS_BY_VERSION[max(v for v in _FILE_RIGHTS_BY_VERSION if v <= known)]
    rules = _Ruleset(handled_access_fs=handled)
    rules.handled_access_net = _TCP if known >= _NETWORK_FROM else 0
    rules.scoped = _SCOPES if known >= _SCOPES_FROM else 0
    size = 8 if known < _NETWORK_FROM else 16 if known < _SCOPES_FROM else 24
    ruleset = call(
        "landlock_create_ruleset", ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    try:
        for paths, rights in (
            (readable, _READ),
            (writable, _READ | _WRITE),
            (executable, _READ | EXECUTE),
        ):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        call("landlock_restrict_self", ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not os.path.isdir(path):
            rights &= _RIGHTS_OF_FILES
        rule = _PathBeneath(allowed_access=rights, parent_fd=place)
        call(
            "landlock_add_rule",
            ctypes.c_int(ruleset),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(place)
