"""Runs one query on a fresh SQLite database, in a process that may be killed (sql_worker.py).

What keeps a query in bounds, each in SQLite itself: an authorizer that allows reading and nothing else, functions that
it refuses (files, extensions, chance), limits of size and depth, a cap on its memory, and a look at the clock every
few thousand steps. A single call into C looks at no clock; only killing the process ends it.

It imports the standard library alone: the process starts in milliseconds.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPENS_FILES = False
"""Whether a query may need a file beyond those that `connect` has opened."""
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_REFUSED_FUNCTIONS = {
    *("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zeroblob"),
    *("random", "randomblob"),  # same query, same rows
}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 10_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 200,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_STEPS_BETWEEN_LOOKS = 5_000
_NUM_KEPT = 32
"""Databases that are kept ready to be copied."""


def errors() -> tuple[type[Exception], ...]:
    """Return what SQLite raises; several statements at once are a Warning to some versions of Python."""
    return sqlite3.Error, sqlite3.Warning


def connect(schema: str, dsn: str, memory_mb: int) -> sqlite3.Connection:
    """Return a database for one query.

    Args:
        schema: statements that make it and fill it; empty where a file is named.
        dsn: the file of a database, which is only read; empty where statements are given.
        memory_mb: what SQLite may take.

    Raises:
        sqlite3.Error: the statements or the file are no database.
    """
    if dsn:
        connection = sqlite3.connect(
            f"{Path(dsn).as_uri()}?mode=ro", uri=True, isolation_level=None
        )
    else:
        connection = _empty()
        _template(schema).backup(connection)
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the file's files
    connection.execute(f"PRAGMA hard_heap_limit = {memory_mb * 2**20}").fetchall()
    connection.execute("PRAGMA temp_store = memory")
    connection.execute("PRAGMA query_only = on")
    connection.text_factory = functools.partial(str, encoding="utf-8", errors="surrogateescape")
    for category, limit in _LIMITS.items():
        connection.setlimit(category, limit)
    connection.set_authorizer(_may)
    return connection


def select(
    connection: sqlite3.Connection, query: str, time_limit_s: float
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query.

    Args:
        connection: from `connect`; for this query alone.
        query: one statement that reads.
        time_limit_s: processor time, so that a busy machine changes no verdict.

    Raises:
        sqlite3.Error: it is not, or SQLite finds a fault in it.
        TimeoutError: it took too long.
    """
    end = time.process_time() + time_limit_s
    connection.set_progress_handler(lambda: time.process_time() > end, _STEPS_BETWEEN_LOOKS)
    try:
        yield from connection.execute(query)
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            raise TimeoutError(f"took longer than {time_limit_s:g} s") from None
        raise


@functools.lru_cache(maxsize=_NUM_KEPT)
def _template(schema: str) -> sqlite3.Connection:
    """Return a database as the statements make it; copying it takes a fraction of the time of making it."""
    connection = _empty()
    connection.set_authorizer(_may_build)
    connection.executescript(schema)
    connection.set_authorizer(None)
    if connection.in_transaction:  # the statements began one and did not end it
        connection.commit()
    return connection


def _empty() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def _may(action: int, _first: str | None, function: str | None, *_: str | None) -> int:
    """Say whether a query may do what it is about to do."""
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    refused = action == sqlite3.SQLITE_FUNCTION and (function or "").lower() in _REFUSED_FUNCTIONS
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _may_build(action: int, _first: str | None, function: str | None, *_: str | None) -> int:
    """Say whether the statements that make a database may do it: anything inside it, nothing in a file."""
    outside = action == sqlite3.SQLITE_ATTACH or (
        action == sqlite3.SQLITE_FUNCTION and (function or "").lower() == "load_extension"
    )
    return sqlite3.SQLITE_DENY if outside else sqlite3.SQLITE_OK
