"""Runs one query on DuckDB, in a process that may be killed (sql_worker.py).

One statement that DuckDB itself takes for a SELECT, in a database without access to anything outside it: no files, no
extensions, no settings to change. Needs the package duckdb.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

OPENS_FILES = (
    True  # DuckDB looks at /proc and /dev/urandom as it goes; queries themselves reach no file
)
_SETTINGS = (
    "SET threads = 1",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_REFUSED_FUNCTIONS = {
    *("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "setseed"),  # same query, same rows
    *("nextval", "getenv"),
}
_ROWS_AT_A_TIME = 1_000


def errors() -> tuple[type[Exception], ...]:
    """Return what DuckDB raises; an ImportError where it is not installed."""
    import duckdb

    return (duckdb.Error,)


def connect(schema: str, dsn: str, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """Return a database for one query.

    Args:
        schema: statements that make it and fill it; empty where a file is named.
        dsn: the file of a database, which is only read; empty where statements are given.
        memory_mb: what DuckDB may take.

    Raises:
        duckdb.Error: the statements or the file are no database.
    """
    import duckdb

    connection = duckdb.connect(dsn or ":memory:", read_only=bool(dsn))
    connection.execute(f"SET memory_limit = '{memory_mb}MiB'")
    for setting in _SETTINGS:
        connection.execute(setting)
    if schema:
        connection.execute(schema)
    return connection


def select(
    connection: duckdb.DuckDBPyConnection, query: str, time_limit_s: float
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query.

    Args:
        connection: from `connect`; for this query alone.
        query: one statement that reads.
        time_limit_s: by the clock.

    Raises:
        duckdb.Error: DuckDB finds a fault in it.
        ValueError: it is more than one statement, or does more than read.
        TimeoutError: it took too long.
        MemoryError: it took too much memory.
    """
    import duckdb

    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ValueError("not one statement that only reads")
    refused = _REFUSED_FUNCTIONS.intersection(_called(query))
    if refused:
        raise ValueError(f"not authorized to use function: {min(refused)}")
    watch = threading.Timer(time_limit_s, connection.interrupt)
    watch.start()
    try:
        connection.execute(statements[0])
        while rows := connection.fetchmany(_ROWS_AT_A_TIME):
            yield from rows
    except duckdb.OutOfMemoryException:
        raise MemoryError from None
    except duckdb.InterruptException:
        raise TimeoutError(f"took longer than {time_limit_s:g} s") from None
    finally:
        watch.cancel()
        watch.join()


def _called(query: str) -> Iterator[str]:
    """Yield the names in a query that a bracket follows, as DuckDB's own reader cuts it into words."""
    import duckdb

    before = ""
    tokens = [(start, kind) for start, kind in duckdb.tokenize(query)]
    ends = [start for start, _ in tokens[1:]] + [len(query)]
    for (start, kind), end in zip(tokens, ends, strict=True):
        if kind == duckdb.token_type.comment:
            continue
        word = query[start:end].strip()
        if word == "(":
            yield before.strip('"').lower()
        before = word
