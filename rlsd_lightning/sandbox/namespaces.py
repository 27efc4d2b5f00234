"""Namespaces: an empty network, private message queues, a folder in memory, processes that see only each other.

They come on top of Landlock and seccomp, wherever the machine allows them: containers often do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from rlsd_lightning.sandbox.linux import mount, unshare

_NEW = {
    "user": 0x10000000,
    "network": 0x40000000,
    "messages": 0x08000000,
    "mounts": 0x00020000,
    "processes": 0x20000000,
}
_MAX_FOLDER_MB = 64
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 16384, 1 << 18


def isolate(folder: str) -> list[str]:
    """Leave as many namespaces as the machine lets this process leave; returns which.

    After "processes" its next child is the first process of a new world, and the whole world ends with that child.
    After "folder" the folder is an empty one in memory, of bounded size, that nobody outside sees.

    Args:
        folder: the working folder of what is to run.
    """
    user, group = os.getuid(), os.getgid()
    left = [name for name, flag in _NEW.items() if _works(lambda flag=flag: unshare(flag))]
    if "user" in left:
        _works(lambda: _map_ids(user, group))
    if "mounts" in left and _works(lambda: _mount_folder(folder)):
        left.append("folder")
    return left


def _works(step: Callable[[], None]) -> bool:
    try:
        step()
    except OSError:
        return False
    return True


def _map_ids(user: int, group: int) -> None:
    """Keep one's own name in the new user namespace, else no file could be made there."""
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(content)


def _mount_folder(folder: str) -> None:
    mount("none", "/", _MS_REC | _MS_PRIVATE)
    size = f"size={_MAX_FOLDER_MB}m,nr_inodes=4096,mode=0700"
    mount("tmpfs", folder, _MS_NOSUID | _MS_NODEV, size)
