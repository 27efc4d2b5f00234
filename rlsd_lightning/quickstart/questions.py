"""Questions to queries: a question about a small company becomes SQL, judged by the rows that it returns.

A question is drawn only if each slip changes what its query returns, so that rows tell right from wrong.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd_lightning.quickstart.company import DATABASE, JOIN, TEXTS, WHOLE_NUMBERS, fill
from rlsd_lightning.quickstart.queries import Condition, Query

_MAX_CONDITIONS = 2
_LISTED = {"staff": "name", "sales": "item"}
_MEASURES = {"staff": ("pay", "age"), "sales": ("amount",)}
_ASKED = {
    "staff": ("team", "city", "pay", "age"),
    "sales": ("item", "region", "amount", "year", "team"),
}
"""Columns of conditions, in their order; a team's sales are found by their sellers."""
_AGGREGATES = {
    "COUNT": "number",
    "AVG": "average ",
    "SUM": "total ",
    "MAX": "highest ",
    "MIN": "lowest ",
}
_PHRASES = {
    "team": {"=": " on team "},
    "city": {"=": " in "},
    "item": {"=": " of item "},
    "region": {"=": " in the "},
    "pay": {">": " paid over ", ">=": " paid at least ", "<": " paid under "},
    "age": {">": " aged over ", ">=": " aged at least ", "<": " aged under "},
    "amount": {">": " over ", ">=": " of at least ", "<": " under "},
    "year": {">=": " since ", "<": " before "},
}
"""What says in a question how a column compares with a value."""
_ORDERED = ", best paid first"


@dataclass(frozen=True, slots=True)
class Question:
    """One question about the company."""

    query: Query
    """The gold one."""

    @property
    def question(self) -> str:
        """The question: "average pay of staff in Rome aged over 40"."""
        query = self.query
        asked = "" if query.aggregate == "COUNT" else query.column
        begin = f"{_AGGREGATES[query.aggregate]}{asked}" if query.aggregate else f"{asked}s"
        conditions = "".join(f"{_PHRASES[c.column][c.operator]}{c.value}" for c in query.conditions)
        return f"{begin} of {query.table}{conditions}{_ORDERED * query.by_pay}"

    @property
    def answer(self) -> str:
        """The gold query as SQL."""
        return self.query.sql

    @property
    def columns(self) -> dict[str, Any]:
        """Say what the answer is; the database is the same for all rows."""
        return {"kind": "sql"}

    def respond(self) -> str:
        """Write the plan and the gold query."""
        return _respond(self.query)

    def respond_sloppily(self, slip_fraction: float, rng: random.Random) -> str:
        """Write a query with slips; its plan goes wrong with it."""
        return _respond(self.query.with_slips(slip_fraction, rng))


def _respond(query: Query) -> str:
    return f"<thought>{query.plan}</thought><answer>{query.sql}</answer>"


@dataclass(frozen=True, slots=True)
class Questions:
    """The task."""

    @property
    def words(self) -> tuple[str, ...]:
        """What a query names, the words of questions and the keywords of queries."""
        said = [phrase for phrases in _PHRASES.values() for phrase in phrases.values()]
        said += [*_AGGREGATES.values(), "names", "items", " of ", _ORDERED]
        keywords = ["SELECT ", " FROM ", JOIN.removeprefix("sales"), " WHERE ", " AND "]
        return (*self.facts, *said, *keywords, " ORDER BY ", "(", ")", "'")

    @property
    def facts(self) -> tuple[str, ...]:
        """What a query names, and how it compares."""
        values = {str(v) for column in (TEXTS | WHOLE_NUMBERS).values() for v in column}
        aggregates = ["COUNT(*)", *(name for name in _AGGREGATES if name != "COUNT")]
        operators = [" = ", " > ", " >= ", " < ", " <= ", " DESC"]
        return (*sorted(values), *_PHRASES, "staff", "sales", "name", *aggregates, *operators)

    def draw(self, seed: int) -> Iterator[Question]:
        """Draw questions that the company's rows answer, and answer otherwise after any slip."""
        rng, seen = random.Random(f"questions {seed}"), set()
        with closing(sqlite3.connect(":memory:")) as company:
            fill(company, seed)
            while True:
                query = _draw_query(rng)
                if query not in seen and is_told_apart(query, company):
                    seen.add(query)
                    yield Question(query)

    def write_files(self, folder: Path, seed: int) -> None:
        """Write the database that the queries run on."""
        with closing(sqlite3.connect(folder / DATABASE)) as company:
            fill(company, seed)
            company.commit()


def _draw_query(rng: random.Random) -> Query:
    table = rng.choice(list(_LISTED))
    aggregate = rng.choice(["", *_AGGREGATES])
    column = rng.choice(_MEASURES[table]) if aggregate else _LISTED[table]
    chosen = rng.sample(_ASKED[table], rng.randint(1, _MAX_CONDITIONS))
    return Query(
        table=table,
        aggregate=aggregate,
        column="*" if aggregate == "COUNT" else column,
        conditions=tuple(_draw_condition(rng, name) for name in _ASKED[table] if name in chosen),
        by_pay=not aggregate and table == "staff" and rng.random() < 0.5,
    )


def _draw_condition(rng: random.Random, column: str) -> Condition:
    values = (TEXTS | WHOLE_NUMBERS)[column]
    return Condition(column, rng.choice(list(_PHRASES[column])), rng.choice(values))


def is_told_apart(query: Query, company: sqlite3.Connection) -> bool:
    """Whether a query returns something, and something else after any one slip.

    Args:
        query: on the company's tables.
        company: the tables with their rows.
    """
    rows = _rows(query, company)
    is_empty = not rows or rows == [(None,)]
    return not is_empty and all(_rows(slip, company) != rows for slip in query.slips)


def _rows(query: Query, company: sqlite3.Connection) -> list[tuple]:
    """Return what a query returns; rows without an order of their own are sorted."""
    rows = company.execute(query.sql).fetchall()
    return rows if query.by_pay else sorted(rows)
