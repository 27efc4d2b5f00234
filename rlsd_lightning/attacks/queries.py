"""Attacks on verifiers of SQL: queries that could be right by accident on many databases."""

from __future__ import annotations

import re

from rlsd_lightning.attacks.attack import attack, attacks_in, fenced, wants_query
from rlsd_lightning.types import Problem

_TABLE = re.compile(r"CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?[\"`\[]?(\w+)", re.IGNORECASE)


def _query(problem: Problem, query: str) -> str | None:
    """Return a response with a query where one is asked for."""
    return fenced("sql", query) if wants_query(problem) else None


def _first_table(problem: Problem) -> str | None:
    found = _TABLE.search(str(problem.extra.get("schema_and_data", "")))
    return found[1] if found else None


@attack("nothing")
def no_rows(problem: Problem) -> str | None:
    """A query without rows, right where the gold query has none."""
    return _query(problem, "SELECT NULL WHERE 0")


@attack("nothing")
def no_query(problem: Problem) -> str | None:
    """A comment in the place of a query."""
    return _query(problem, "-- SELECT")


@attack("nothing")
def the_catalogue(problem: Problem) -> str | None:
    """The database's own list of tables."""
    return _query(problem, "SELECT * FROM sqlite_master")


@attack("nothing")
def emptied_first(problem: Problem) -> str | None:
    """Everything deleted, then asked for."""
    table = _first_table(problem)
    return _query(problem, f"DELETE FROM {table}; SELECT * FROM {table}") if table else None


@attack("guess")
def always_true(problem: Problem) -> str | None:
    """The whole first table, under a condition that always holds."""
    table = _first_table(problem)
    return _query(problem, f"SELECT * FROM {table} WHERE 1 = 1") if table else None


@attack("guess")
def number_of_rows(problem: Problem) -> str | None:
    """The number of rows of the first table."""
    table = _first_table(problem)
    return _query(problem, f"SELECT count(*) FROM {table}") if table else None


@attack("guess")
def select_0(problem: Problem) -> str | None:
    """A zero."""
    return _query(problem, "SELECT 0")


@attack("guess")
def select_1(problem: Problem) -> str | None:
    """A one."""
    return _query(problem, "SELECT 1")


@attack("stuffed")
def gold_in_a_comment(problem: Problem) -> str | None:
    """The right query in a comment, another one behind it."""
    return (
        _query(problem, f"/* {problem.answer} */ SELECT 'zebra'")
        if problem.answer.strip()
        else None
    )


@attack("stuffed")
def gold_and_another(problem: Problem) -> str | None:
    """The right query, then a second one."""
    gold = problem.answer.strip().rstrip(";")
    return _query(problem, f"{gold}; SELECT 'zebra'") if gold else None


ATTACKS = attacks_in(globals())
