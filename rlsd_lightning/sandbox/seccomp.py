"""seccomp: the system calls that a process may no longer make.

A filter in classic BPF (docs.kernel.org/userspace-api/seccomp_filter.html) looks at every call's number and, for some,
at one argument. It needs no privilege, holds for good, and answers a forbidden call with "operation not permitted", so
that a program sees an error and not its death. Calls that are newer than the table are answered with "no such call".
"""

from __future__ import annotations

import ctypes
import errno

from rlsd_lightning.sandbox.linux import (
    LAST_NUMBER,
    MACHINE,
    PR_SET_SECCOMP,
    number_of,
    prctl,
)

NETWORK = ("socket", "connect", "accept", "accept4", "bind", "listen")
PROCESSES = ("fork", "vfork")
PROGRAMS = ("execve", "execveat")
GROUPS = ("setsid", "setpgid")
OTHER_PROCESSES = (
    *("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "pidfd_open"),
    *("pidfd_getfd", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise"),
    *("process_mrelease", "kcmp", "sched_setscheduler", "sched_setattr", "sched_setparam"),
    *("sched_setaffinity", "setpriority", "ioprio_set", "migrate_pages", "move_pages"),
)
KERNEL = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "bpf", "perf_event_open"),
    *("userfaultfd", "keyctl", "add_key", "request_key", "init_module", "finit_module"),
    *("delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff"),
    *("sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime"),
    *("adjtimex", "acct", "quotactl", "quotactl_fd", "iopl", "ioperm", "modify_ldt", "syslog"),
    *("vhangup", "fanotify_init", "name_to_handle_at", "open_by_handle_at"),
)
LEFT_BEHIND = ("memfd_create", "memfd_secret", "shmget", "msgget", "semget", "mq_open")
FILES = (
    *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "fchmod", "fchown"),
    *("fsetxattr", "fremovexattr"),
)
PATHS = (
    *("chmod", "fchmodat", "chown", "lchown", "fchownat", "utime", "utimes", "utimensat"),
    *("futimesat", "setxattr", "lsetxattr", "removexattr", "lremovexattr", "truncate"),
)
"""What Landlock does not see, by path."""
_UNKNOWN = ("io_uring_setup", "io_uring_enter", "io_uring_register")
"""Answered as if the kernel did not have them, so that libraries take the old way."""

_TO_LINK = ("chmod", "fchmod", "fchmodat")
"""What a linker needs to make a file executable."""
_CLONE_THREAD = 0x10000
_AF_UNIX = 1
_PR_SET_PDEATHSIG = 1
_SEND_SIGNALS = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
_TERMINALS = (0x8901, 0x8902, 0x5410, 0x5412)  # FIOSETOWN, SIOCSPGRP, TIOCSPGRP, TIOCSTI

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _EQUAL, _GREATER, _SET, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("then", ctypes.c_uint8),
        ("otherwise", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def forbid(own_pid: int, *, starts_programs: bool = False, forks: bool = False) -> None:
    """Give up, for good, whatever reaches beyond this process and its own files.

    no_new_privs must be set. Threads stay possible, and so do signals to itself.

    Args:
        own_pid: this process's id.
        starts_programs: it may still become another program (execve).
        forks: it may still start processes.

    Raises:
        OSError: it could not be done.
    """
    refused = [*NETWORK, *GROUPS, *OTHER_PROCESSES, *KERNEL, *LEFT_BEHIND, *FILES, *PATHS]
    refused += [] if starts_programs else PROGRAMS
    conditions: list[
        tuple[str, int, str, int]
    ] = [  # refused unless argument number ... is, has, is not ...
        ("socketpair", 0, "is", _AF_UNIX),
        *(("fcntl", 1, "is not", command) for command in _SEND_SIGNALS),
        *(("ioctl", 1, "is not", command) for command in _TERMINALS),
        ("prctl", 0, "is not", _PR_SET_PDEATHSIG),
        ("prlimit64", 0, "is", 0),
    ]
    if not forks:
        refused += PROCESSES
        conditions.append(("clone", 0, "has", _CLONE_THREAD))
        conditions += [(name, 0, "is", own_pid) for name in ("kill", "tgkill")]
    else:  # what it starts has ids of its own; Landlock or a namespace keeps signals inside
        refused = [name for name in refused if name not in _TO_LINK]
    _install(_assemble(refused, conditions))


def _assemble(
    refused: list[str], conditions: list[tuple[str, int, str, int]]
) -> list[tuple[int, int, int, int]]:
    """Return the filter's instructions: code, jump if true, jump if false, value.

    Args:
        refused: calls that are refused whatever their arguments.
        conditions: a call, one of its arguments, "is", "has" or "is not", and a number: refused unless that holds. Only
            the argument's low 32 bits are looked at, as the kernel does for these calls.
    """
    if MACHINE not in _MACHINES:
        raise OSError(f"no system call filter for {MACHINE} machines")
    denied, unknown = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    code = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, _MACHINES[MACHINE]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_GREATER, 0, 1, LAST_NUMBER),  # the x32 calls, too
        (_RETURN, 0, 0, unknown),
    ]
    for names, answer in ((refused, denied), (("clone3", *_UNKNOWN), unknown)):
        for name in names:
            number = number_of(name)
            if number is not None:
                code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    for name, argument, test, value in conditions:
        number = number_of(name)
        assert number is not None
        holds, fails = (1, 0) if test != "is not" else (0, 1)
        code += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
            (_SET if test == "has" else _EQUAL, holds, fails, value),
            (_RETURN, 0, 0, denied),
            (_LOAD, 0, 0, _NUMBER_AT),
        ]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def _install(code: list[tuple[int, int, int, int]]) -> None:
    instructions = (_Instruction * len(code))(*(_Instruction(*line) for line in code))
    program = _Program(len(code), ctypes.cast(instructions, ctypes.POINTER(_Instruction)))
    mode_filter = 2
    prctl(PR_SET_SECCOMP, mode_filter, ctypes.byref(program))
