"""The process that runs queries: python sql_worker.py DIALECT MEMORY_MB PARENT.

It reads one JSON object per line and answers each in two lines: {"opened": true} once the database is there, then the
rows or what came instead of them. It never sees what rows are wanted. Its own limits hold whatever a query manages to
do: memory, no file written, no file opened while a query runs, no core dump; and it ends with the process that started
it. It imports the standard library and one dialect, no part of this package, so that a killed one is replaced within
milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

_PR_SET_PDEATHSIG = 1
_VALUE = 16
"""What a value of any type counts for, in characters."""
_BASE_MB = {"sqlite": 128, "duckdb": 4096, "postgresql": 512}
"""Address space beside what a query may take: the interpreter, what the dialect reserves but does not use."""


class _TooMuchError(Exception):
    """A query returns more than may be compared; the message follows on "it"."""


def main(name: str, memory_mb: int, parent: int) -> None:
    """Answer until the other side closes its end.

    Args:
        name: of the dialect.
        memory_mb: what a query may take.
        parent: the process to end with.
    """
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the parent, which ends this process
    try:
        dialect = _load(name)
        errors = dialect.errors()
    except ImportError as error:
        for _ in sys.stdin.buffer:
            _say(failed=_words(error))
        return
    _limit((memory_mb + _BASE_MB[name]) * 2**20)
    for line in sys.stdin.buffer:
        _say(**_answer(dialect, errors, json.loads(line), memory_mb))


def _answer(
    dialect: ModuleType, errors: tuple[type[Exception], ...], task: dict[str, Any], memory_mb: int
) -> dict[str, Any]:
    """Return the rows of a query, or what came instead of them."""
    try:
        connection = dialect.connect(task["schema"], task["dsn"], memory_mb)
    except (*errors, ValueError, MemoryError) as error:
        return {"failed": _words(error)}
    with contextlib.closing(connection):
        _say(opened=True)
        try:
            with contextlib.nullcontext() if dialect.OPENS_FILES else _no_file_opened():
                return {"rows": _rows(dialect, connection, task)}
        except (TimeoutError, _TooMuchError) as stopped:
            return {"stopped": str(stopped)}
        except ConnectionError as error:
            return {"failed": _words(error)}
        except MemoryError:
            return {"stopped": f"took more than {memory_mb} MB of memory"}
        except (*errors, ValueError) as error:
            return {"error": _words(error)}


def _rows(dialect: ModuleType, connection: Any, task: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    size = 0
    found = dialect.select(connection, task["query"], task["time_limit_s"])
    with contextlib.closing(found):
        for values in found:
            rows.append([_plain(value) for value in values])
            size += sum(len(v) if isinstance(v, str | bytes) else 0 for v in values) + _VALUE * len(
                values
            )
            if len(rows) > task["max_rows"]:
                raise _TooMuchError(f"returned more than {task['max_rows']} rows")
            if size > task["max_chars"]:
                raise _TooMuchError(f"returned more than {task['max_chars']} characters")
    return rows


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a decimal is a fractional number, a date its text, bytes are marked as such."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"hex": bytes(value).hex()}
    if value is None or isinstance(value, bool | int | float | str):
        return int(value) if isinstance(value, bool) else value
    return float(value) if isinstance(value, Decimal) else str(value)


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".?! ")


def _say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _load(name: str) -> ModuleType:
    """Import the dialect's file beside this one."""
    path = Path(__file__).with_name(f"sql_{name}.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _die_with(parent: int) -> None:
    """End together with the parent, even inside a long call; elsewhere than on Linux, once its end is closed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    memory = memory if highest == resource.RLIM_INFINITY else min(memory, highest)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


@contextlib.contextmanager
def _no_file_opened() -> Iterator[None]:
    """Let no file, socket or pipe be opened meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
