"""The few system calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
MACHINE = os.uname().machine

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

NUMBERS = {
    # name: (x86_64, aarch64); None where the machine has no such call
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "capset": (126, 91),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "truncate": (76, 45),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setaffinity": (203, 122),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "prlimit64": (302, 261),
    "prctl": (157, 167),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
}
"""Numbers of system calls: asm/unistd_64.h and asm-generic/unistd.h of Linux."""
LAST_NUMBER = 450
"""Of the calls that were known when the table was written (Linux 5.17); later ones are refused unseen."""
_COLUMNS = {"x86_64": 0, "aarch64": 1}


def number_of(name: str) -> int | None:
    """Return a system call's number on this machine; None where it has no such call.

    Raises:
        OSError: nothing is known of this kind of machine.
    """
    if MACHINE not in _COLUMNS:
        raise OSError(f"no table of system calls for {MACHINE} machines")
    return NUMBERS[name][_COLUMNS[MACHINE]]


def call(name: str, *arguments: object) -> int:
    """Make a system call and return what it returns.

    Args:
        name: of the call.
        arguments: numbers, or what ctypes takes for pointers.

    Raises:
        OSError: it failed.
    """
    return _checked(name, LIBC.syscall(ctypes.c_long(number_of(name) or -1), *arguments))


def prctl(option: int, value: object, more: object = 0) -> None:
    """Change something about this process.

    Args:
        option: one of the PR_ constants.
        value: what the option takes.
        more: the same.

    Raises:
        OSError: it failed.
    """
    _checked("prctl", LIBC.prctl(option, value, more, 0, 0))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (CLONE_NEW constants).

    Raises:
        OSError: it failed.
    """
    _checked("unshare", LIBC.unshare(flags))


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Mount a file system that needs no device.

    Raises:
        OSError: it failed.
    """
    arguments = (kind.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags))
    _checked("mount", LIBC.mount(*arguments, options.encode()))


def unmount(target: str) -> None:
    """Take away what was mounted.

    Raises:
        OSError: it failed.
    """
    detach = 2
    _checked("umount", LIBC.umount2(target.encode(), detach))


def die_with(parent: int, signal_number: int) -> None:
    """Get a signal when the process that started this one ends; end now if it is gone already.

    Args:
        parent: its id, as this process sees it.
        signal_number: which.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(1)


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
