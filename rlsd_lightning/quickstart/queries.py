"""Queries on the company's tables, and how they go wrong: as it happens at work.

A condition on the wrong column, > for >=, a condition forgotten, a total in the place of an average, the wrong order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from rlsd_lightning.quickstart.company import JOIN

_OF_STAFF = ("team", "city")
"""What is asked of a sale's seller."""
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
    def slipped(self) -> Condition:
        """The same on the wrong column, or with the wrong comparison."""
        if isinstance(self.value, str):
            return replace(self, column=_WRONG_COLUMN[self.column])
        return replace(self, operator=_WRONG_OPERATOR[self.operator])


@dataclass(frozen=True, slots=True)
class Query:
    """A list or one number from a table.

    Example:
        >>> Query("staff", "AVG", "pay", (Condition("city", "=", "Rome"), Condition("age", ">=", 40))).sql
        "SELECT AVG(pay) FROM staff WHERE city = 'Rome' AND age >= 40"
    """

    table: str
    """staff or sales."""
    aggregate: str
    """COUNT, AVG, SUM, MAX, MIN; empty for a list."""
    column: str
    """What is listed or aggregated; * for COUNT."""
    conditions: tuple[Condition, ...]
    by_pay: bool = False
    """Whether a list is ordered, by pay, the highest first."""
    descending: bool = True
    """Whether the order is that; only a slip has another."""

    @property
    def sql(self) -> str:
        """The query as SQL."""
        told = f"{self.aggregate}({self.column})" if self.aggregate else self.column
        asks_both = self.table == "sales" and any(c.column in _OF_STAFF for c in self.conditions)
        where = " AND ".join(map(str, self.conditions))
        return (
            f"SELECT {told} FROM {JOIN if asks_both else self.table}"
            + (f" WHERE {where}" if where else "")
            + (f" ORDER BY pay{' DESC' * self.descending}" if self.by_pay else "")
        )

    @property
    def plan(self) -> str:
        """The thought before it: which table and which columns matter."""
        return " ".join([self.table, *(condition.column for condition in self.conditions)])

    @property
    def slips(self) -> list[Query]:
        """The query with one slip each, all there are."""
        found = []
        for place, condition in enumerate(self.conditions):
            before, after = self.conditions[:place], self.conditions[place + 1 :]
            found += [
                replace(self, conditions=(*before, condition.slipped, *after)),
                replace(self, conditions=before + after),
            ]
        if self.aggregate in _WRONG_AGGREGATE:
            found.append(replace(self, aggregate=_WRONG_AGGREGATE[self.aggregate]))
        if self.by_pay:
            found.append(replace(self, descending=False))
        return found

    def with_slips(self, fraction: float, rng: random.Random) -> Query:
        """Return the query with some slips, each drawn by itself.

        Args:
            fraction: probability of each slip; forgetting a condition is half as likely.
            rng: draws them.
        """
        conditions = []
        for condition in self.conditions:
            said = condition.slipped if rng.random() < fraction else condition
            conditions += [said] if rng.random() >= fraction / 2 else []
        aggregate = self.aggregate
        if aggregate in _WRONG_AGGREGATE and rng.random() < fraction:
            aggregate = _WRONG_AGGREGATE[aggregate]
        descending = not (self.by_pay and rng.random() < fraction)
        return replace(
            self, conditions=tuple(conditions), aggregate=aggregate, descending=descending
        )
