"""Runs queries in a process of its own, which is killed and replaced when a query does not come to its end.

The process lives from the first query on and answers one query after the other; see sql_worker.py for its side. Any
thread may ask; one is served at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

DIALECTS = {"sqlite": "", "duckdb": "duckdb", "postgresql": "psycopg"}
"""Those there are, and the package that each needs."""
_OPEN_S = 60.0
"""How long making or opening a database may take."""
_PATIENCE = 1.5
"""A query that has not ended itself after so many times its limit, by the clock, is killed; a busy machine needs longer."""
_GRACE_S = 0.5
"""Beside that, for handing rows over."""
_MAX_CHARS = 16_000_000
_MAX_ANSWER_BYTES = 8 * _MAX_CHARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What a query runs on; equal ones hold the same rows."""

    schema: str = ""
    """Statements that make it and fill it, afresh for each query; empty where it is there already."""
    dsn: str = ""
    """Where it is, if it is there already: a file, or PostgreSQL's connection string. It may hold a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a query."""

    kind: Literal["rows", "error", "stopped"]
    """"error": the database found a fault in it. "stopped": it went beyond its limits."""
    rows: list[tuple[Any, ...]]
    """Of None, int, float, str and bytes. [num_rows, num_columns]"""
    detail: str = ""
    """Of a query without rows: what happened."""


class DatabaseError(ValueError):
    """There is no database to ask; no query is to blame for that."""


class QueryRunner:
    """Runs queries on databases of one dialect.

    Args:
        dialect: one of DIALECTS.
        memory_mb: what one query may take, in MiB.
        max_rows: a query that returns more is stopped.
    """

    def __init__(self, dialect: str, memory_mb: int, max_rows: int) -> None:
        self._dialect = dialect
        self._memory_mb = memory_mb
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize | None = None
        self._received = b""

    def run(self, database: Database, query: str, time_limit_s: float) -> Result:
        """Return what a query returns.

        A process that ends while it has the query is replaced and asked once more: whatever killed it may have come
        from outside. What takes too long is not repeated.

        Args:
            database: what it runs on.
            query: one statement that reads.
            time_limit_s: how long it may take; processor time where the dialect can tell, else by the clock.

        Raises:
            DatabaseError: the database cannot be made or opened.
        """
        task = {
            "schema": database.schema,
            "dsn": database.dsn,
            "query": query,
            "time_limit_s": time_limit_s,
            "max_rows": self._max_rows,
            "max_chars": _MAX_CHARS,
        }
        with self._lock:
            for _ in range(2):
                with contextlib.suppress(EOFError):
                    return self._ask(task, time_limit_s)
                code = self._stop()
            return Result(kind="stopped", rows=[], detail=f"ended its process (exit code {code})")

    def close(self) -> None:
        """End the process; another query starts it again."""
        with self._lock:
            self._stop()

    def _ask(self, task: Mapping[str, Any], time_limit_s: float) -> Result:
        """Return one query's result; EOFError if the process ends over it."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise EOFError from None
        try:
            _check(self._answer(process, _OPEN_S))
        except TimeoutError:
            self._stop()
            raise DatabaseError(f"making or opening it took longer than {_OPEN_S:g} s") from None
        try:
            answer = self._answer(process, _PATIENCE * time_limit_s + _GRACE_S)
        except TimeoutError:
            self._stop()
            return Result(kind="stopped", rows=[], detail=f"took longer than {time_limit_s:g} s")
        _check(answer)
        return _result(answer)

    def _answer(self, process: subprocess.Popen[bytes], patience_s: float) -> dict[str, Any]:
        """Return the next line of the process; TimeoutError or EOFError if none comes."""
        assert process.stdout is not None
        end = time.monotonic() + patience_s
        ready = select.poll()
        ready.register(process.stdout, select.POLLIN)
        pieces = [self._received]
        size = 0
        while b"\n" not in pieces[-1]:
            if not ready.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError
            pieces.append(os.read(process.stdout.fileno(), 2**20))
            size += len(pieces[-1])
            if not pieces[-1] or size > _MAX_ANSWER_BYTES:
                raise EOFError
        line, _, self._received = b"".join(pieces).partition(b"\n")
        try:
            return json.loads(line, object_hook=_bytes)
        except ValueError:
            raise EOFError from None  # a process that says something else is as good as gone

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        isolated = ["-I", "-S"] if self._dialect == "sqlite" else ["-I"]  # SQLite needs no packages
        worker = Path(__file__).with_name("sql_worker.py")
        arguments = [self._dialect, str(self._memory_mb), str(os.getpid())]
        self._process = subprocess.Popen(
            [sys.executable, *isolated, str(worker), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._received = b""
        self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def _stop(self) -> int | None:
        """End the process and return its exit code; None where there is none."""
        if self._process is None or self._end is None:
            return None
        process, self._process = self._process, None
        self._end()
        return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # what it did not read any more
            pipe.close()


def _check(answer: Mapping[str, Any]) -> None:
    """Raise a DatabaseError if a process says that there is no database, or that it is gone."""
    if "failed" in answer:
        raise DatabaseError(answer["failed"])


def _result(answer: Mapping[str, Any]) -> Result:
    if "rows" in answer:
        return Result(kind="rows", rows=[tuple(row) for row in answer["rows"]])
    kind: Literal["error", "stopped"] = "error" if "error" in answer else "stopped"
    return Result(kind=kind, rows=[], detail=answer[kind])


def _bytes(value: dict[str, Any]) -> Any:
    """Return bytes for the object that stands for them."""
    return bytes.fromhex(value["hex"]) if value.keys() == {"hex"} else value
