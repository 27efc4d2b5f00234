"""A small company's tables: who works there, and what was sold. The rows that sql_quickstart's queries run on."""

from __future__ import annotations

import random
import sqlite3

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
JOIN = "sales JOIN staff ON seller = name"
TEXTS = {"team": TEAMS, "city": CITIES, "item": ITEMS, "region": REGIONS}
"""Columns of words, with the words."""
WHOLE_NUMBERS = {"pay": NUMBERS, "age": AGES, "amount": NUMBERS, "year": YEARS}
"""Columns of numbers, with the numbers."""
_NUM_SALES = 120


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
