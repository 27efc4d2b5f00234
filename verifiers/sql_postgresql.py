"""Runs one query on a PostgreSQL server, from a process that may be killed (sql_worker.py).

One statement in a transaction that only reads, by a role that is no superuser (a superuser's SELECT can read files and
run programs), under the server's own time limit. What the role may see, a query may see: give it a database of its own,
and SELECT on what the problems are about. Needs the package psycopg.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

OPENS_FILES = True
"""Waiting for the server takes a descriptor; queries run there, not here."""
_REFUSED_NAMES = ("pg_terminate_backend", "pg_cancel_backend", 'u&"')
"""What would end the queries of siblings, and a way to spell it that hides it."""
_REFUSED_FUNCTIONS = re.compile(
    r"\b(?:random|gen_random_uuid|setseed|clock_timestamp)\b\"?\s*\(", re.IGNORECASE
)
"""Same query, same rows."""


def errors() -> tuple[type[Exception], ...]:
    """Return what psycopg raises; an ImportError where it is not installed."""
    import psycopg

    return (psycopg.Error,)


def connect(schema: str, dsn: str, memory_mb: int) -> psycopg.Connection:
    """Return a connection for one query, in a transaction that only reads.

    Args:
        schema: empty; the database is there.
        dsn: a connection string, as libpq reads it.
        memory_mb: what one sort or hash of the server may take.

    Raises:
        psycopg.Error: the server cannot be reached.
        ValueError: the role is a superuser.
    """
    import psycopg

    connection = psycopg.connect(dsn, connect_timeout=10)
    connection.read_only = True
    if connection.execute(
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone() != (False,):
        connection.close()
        raise ValueError(
            "its role is a superuser, whose queries can do anything; name a role that may only SELECT"
        )
    connection.execute(f"SET LOCAL work_mem = '{memory_mb}MB'")
    return connection


def select(
    connection: psycopg.Connection, query: str, time_limit_s: float
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query as the server sends them.

    Args:
        connection: from `connect`; for this query alone.
        query: one statement that reads.
        time_limit_s: by the server's clock.

    Raises:
        psycopg.Error: the server finds a fault in it.
        ValueError: it calls what it may not.
        TimeoutError: it took too long.
        ConnectionError: the server is gone, whosever fault that is.
    """
    import psycopg

    if "\0" in query:
        raise ValueError("the query contains a null character")  # libpq would end it there
    if any(name in query.lower() for name in _REFUSED_NAMES) or _REFUSED_FUNCTIONS.search(query):
        raise ValueError(
            "not authorized to use a function of chance or one that ends other queries"
        )
    connection.execute(f"SET LOCAL statement_timeout = {max(1, round(time_limit_s * 1000))}")
    with connection.cursor() as cursor:
        try:
            # A stream takes one statement only, and one row at a time.
            yield from cursor.stream(query.encode())
        except psycopg.errors.QueryCanceled:
            raise TimeoutError(f"took longer than {time_limit_s:g} s") from None
        except psycopg.OperationalError as error:
            if connection.broken:
                raise ConnectionError(str(error)) from None
            raise
