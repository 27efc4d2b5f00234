"""Questions to queries: a question about a small company becomes SQL, judged by the rows that it returns.

What goes wrong is what goes wrong at work: a condition on the wrong column, > for >=, a condition forgotten, a total in
the place of an average, the wrong order. A question is drawn only if each of these changes what its query returns,
so that rows tell right from wrong.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TEAMS = ("blue", "green", "red", "white")
CITIES = ("Rome", "Oslo", "Lagos", "Lima", "Kyoto")
ITEMS = ("lamp", "chair", "desk", "sofa")
REGIONS = ("north", "south", "east", "west")
YEARS = (2022, 2023, 2024, 2025, 2026)
NUMBERS = tuple(range(20, 100, 5))
AGES = tuple(range(20, 65, 5))
NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Ned", "Oda",
         "Pia", "Ravi", "Sue", "Tom", "Uma", "Vic", "Wen", "Yan", "Zoe")  # fmt: skip

DATABASE = "company.sqlite"
SCHEMA = """\
CREATE TABLE staff (name TEXT PRIMARY KEY, team TEXT, city TEXT, pay INTEGER, age INTEGER);
CREATE TABLE sales (item TEXT, region TEXT, amount INTEGER, year INTEGER, seller TEXT REFERENCES staff (name));
"""
_NUM_SALES = 120
_MAX_CONDITIONS = 2

_JOIN = "sales JOIN staff ON seller = name"
_LISTED = {"staff": "name", "sales": "item"}
_MEASURES = {"staff": ("pay", "age"), "sales": ("amount",)}
_TEXTS = {
    "team": (" on team ", TEAMS),
    "city": (" in ", CITIES),
    "item": (" of item ", ITEMS),
    "region": (" in the ", REGIONS),
}
"""What says in a question that a column has a value, and the values."""
_COMPARED = {
    "pay": {">": " paid over ", ">=": " paid at least ", "<": " paid under "},
    "age": {">": " aged over ", ">=": " aged at least ", "<": " aged under "},
    "amount": {">": " over ", ">=": " of at least ", "<": " under "},
    "year": {">=": " since ", "<": " before "},
}
"""What says in a question how a column compares."""
_AGGREGATES = {"AVG": "average ", "SUM": "total ", "MAX": "highest ", "MIN": "lowest "}
_WRONG_AGGREGATE = {"AVG": "SUM", "SUM": "AVG", "MAX": "MIN", "MIN": "MAX"}
_WRONG_COLUMN = {"team": "city", "city": "team", "item": "region", "region": "item"}
_WRONG_OPERATOR = {">": ">=", ">=": ">", "<": "<="}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a query."""

    column: str
    operator: str
    value: str | int

    def __str__(self) -> str:
        value = f"'{self.value}'" if isinstance(self.value, str) else self.value
        return f"{self.column} {self.operator} {value}"

    @property
    def words(self) -> str:
        """How a question says it."""
        if isinstance(self.value, str):
            return f"{_TEXTS[self.column][0]}{self.value}"
        return f"{_COMPARED[self.column][self.operator]}{self.value}"

    @property
    def slipped(self) -> Condition:
        """The same on the wrong column, or with the wrong comparison."""
        if isinstance(self.value, str):
            return replace(self, column=_WRONG_COLUMN[self.column])
        return replace(self, operator=_WRONG_OPERATOR[self.operator])


@dataclass(frozen=True, slots=True)
class Query:
    """What a question asks for."""

    table: str
    """staff or sales."""
    aggregate: str
    """COUNT, AVG, SUM, MAX, MIN; empty for a list."""
    column: str
    """What is listed or aggregated; counted are rows."""
    conditions: tuple[Condition, ...]
    by_pay: bool = False
    """Whether a list is ordered, by pay, the highest first."""
    descending: bool = True
    """Whether the order is that; only a slip has another."""

    @property
    def sql(self) -> str:
        """The query."""
        told = f"{self.aggregate}({self.column})" if self.aggregate else self.column
        joined = self.table == "sales" and any(
            c.column in ("team", "city") for c in self.conditions
        )
        where = " AND ".join(map(str, self.conditions))
        order = f" ORDER BY pay{' DESC' * self.descending}" if self.by_pay else ""
        source = _JOIN if joined else self.table
        return f"SELECT {told} FROM {source}{f' WHERE {where}' if where else ''}{order}"

    @property
    def plan(self) -> str:
        """The thought before it: which table and which columns matter."""
        return " ".join([self.table, *(condition.column for condition in self.conditions)])

    @property
    def slips(self) -> list[Query]:
        """The query with one slip each, all there are."""
        found = [
            replace(
                self, conditions=self.conditions[:place] + changed + self.conditions[place + 1 :]
            )
            for place, condition in enumerate(self.conditions)
            for changed in ((condition.slipped,), ())
        ]
        if self.aggregate in _WRONG_AGGREGATE:
            found.append(replace(self, aggregate=_WRONG_AGGREGATE[self.aggregate]))
        if self.by_pay:
            found.append(replace(self, descending=False))
        return found


@dataclass(frozen=True, slots=True)
class Question:
    """One question about the company."""

    query: Query
    """The gold one."""

    @property
    def question(self) -> str:
        """The question: "average pay of staff in Rome aged over 40"."""
        query = self.query
        if query.aggregate == "COUNT":
            begin = "number"
        elif query.aggregate:
            begin = f"{_AGGREGATES[query.aggregate]}{query.column}"
        else:
            begin = f"{query.column}s"
        conditions = "".join(condition.words for condition in query.conditions)
        return f"{begin} of {query.table}{conditions}{', best paid first' * query.by_pay}"

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
        """Write a query with slips, each drawn by itself; plan and query go wrong together."""
        query, conditions = self.query, []
        for condition in query.conditions:
            slipped = condition.slipped if rng.random() < slip_fraction else condition
            conditions += [slipped] if rng.random() >= slip_fraction / 2 else []
        if query.aggregate in _WRONG_AGGREGATE and rng.random() < slip_fraction:
            query = replace(query, aggregate=_WRONG_AGGREGATE[query.aggregate])
        if query.by_pay and rng.random() < slip_fraction:
            query = replace(query, descending=False)
        return _respond(replace(query, conditions=tuple(conditions)))


def _respond(query: Query) -> str:
    return f"<thought>{query.plan}</thought><answer>{query.sql}</answer>"


@dataclass(frozen=True, slots=True)
class Queries:
    """The task."""

    @property
    def words(self) -> tuple[str, ...]:
        """Names of tables and columns, values, the words of questions and the keywords of queries."""
        said = [words for words, _ in _TEXTS.values()]
        said += [words for compared in _COMPARED.values() for words in compared.values()]
        said += [*_AGGREGATES.values(), "number", " of ", "names", "items", ", best paid first"]
        return (*self.facts, *said, "SELECT ", " FROM ", _JOIN[len("sales"):], " WHERE ", " AND ",
                " ORDER BY ", "(", ")", "'")  # fmt: skip

    @property
    def facts(self) -> tuple[str, ...]:
        """What a query may name, and how it compares."""
        texts = [value for _, values in _TEXTS.values() for value in values]
        columns = ["name", "seller", *_TEXTS, *_COMPARED]
        operators = [" = ", " > ", " >= ", " < ", " <= "]
        aggregates = ["COUNT(*)", *_AGGREGATES, " DESC"]
        return (
            *texts,
            *map(str, (*NUMBERS, *YEARS)),
            "staff",
            "sales",
            *columns,
            *operators,
            *aggregates,
        )

    def draw(self, seed: int) -> Iterator[Question]:
        """Draw questions that the company's rows answer, and answer otherwise after any slip."""
        rng, seen = random.Random(f"sql {seed}"), set()
        with closing(sqlite3.connect(":memory:")) as company:
            fill(company, seed)
            while True:
                query = _draw_query(rng)
                if query not in seen and _is_told_apart(query, company):
                    seen.add(query)
                    yield Question(query)

    def write_files(self, folder: Path, seed: int) -> None:
        """Write the database that the queries run on."""
        with closing(sqlite3.connect(folder / DATABASE)) as company:
            fill(company, seed)
            company.commit()


def fill(company: sqlite3.Connection, seed: int) -> None:
    """Make the company's tables.

    Args:
        company: an empty database.
        seed: of the rows.
    """
    rng = random.Random(f"company {seed}")
    staff = [
        (name, rng.choice(TEAMS), rng.choice(CITIES), rng.choice(NUMBERS), rng.choice(AGES))
        for name in NAMES
    ]
    sales = [
        (
            rng.choice(ITEMS),
            rng.choice(REGIONS),
            rng.choice(NUMBERS),
            rng.choice(YEARS),
            rng.choice(NAMES),
        )
        for _ in range(_NUM_SALES)
    ]
    company.executescript(SCHEMA)
    company.executemany("INSERT INTO staff VALUES (?, ?, ?, ?, ?)", staff)
    company.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?)", sales)


def _draw_query(rng: random.Random) -> Query:
    table = rng.choice(["staff", "sales"])
    columns = {
        "staff": ["team", "city", "pay", "age"],
        "sales": ["item", "region", "amount", "year", "team"],
    }[table]
    aggregate = rng.choice(["", "COUNT", *_AGGREGATES])
    chosen = rng.sample(columns, rng.randint(1, _MAX_CONDITIONS))
    column = rng.choice(_MEASURES[table]) if aggregate else _LISTED[table]
    return Query(
        table=table,
        aggregate=aggregate,
        column="*" if aggregate == "COUNT" else column,
        conditions=tuple(_draw_condition(rng, name) for name in columns if name in chosen),
        by_pay=not aggregate and table == "staff" and rng.random() < 0.5,
    )


def _draw_condition(rng: random.Random, column: str) -> Condition:
    if column in _TEXTS:
        return Condition(column, "=", rng.choice(_TEXTS[column][1]))
    operator = rng.choice(list(_COMPARED[column]))
    values = {"year": YEARS, "age": AGES}.get(column, NUMBERS)
    return Condition(column, operator, rng.choice(values))


def _is_told_apart(query: Query, company: sqlite3.Connection) -> bool:
    """Whether a query returns something, and something else after any one slip."""
    rows = _rows(query, company)
    is_empty = not rows or rows == [(None,)]
    return not is_empty and all(_rows(slip, company) != rows for slip in query.slips)


def _rows(query: Query, company: sqlite3.Connection) -> list[tuple]:
    rows = company.execute(query.sql).fetchall()
    return rows if query.by_pay else sorted(rows)
