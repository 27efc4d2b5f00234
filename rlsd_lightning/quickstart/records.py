"""Documents to records: short orders become JSON records, judged by their schema and by the gold record."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlsd_lightning.quickstart.orders import (
    CITIES,
    DAYS,
    FIRST_NAMES,
    LAST_NAMES,
    MAX_QUANTITY,
    MONTHS,
    NUMBERS,
    PHRASINGS,
    PRODUCTS,
    SCHEMA,
    YEARS,
    Order,
)

_VALUES = (
    *FIRST_NAMES,
    *(f" {name}" for name in LAST_NAMES),
    *CITIES,
    *PRODUCTS,
    *(f"{number:02d}" for number in range(1, 100)),
    *map(str, YEARS),
)
_PHRASES = (
    *(f" {month} " for month in MONTHS),
    "Order ",
    " of ",
    " takes ",
    " at ",
    " each",
    "On ",
    " from ",
    " bought ",
    " for ",
    " in ",
    ", order ",
)


@dataclass(frozen=True, slots=True)
class Records:
    """The task."""

    @property
    def words(self) -> tuple[str, ...]:
        """Names, products, months and the keys of a record with the marks around them."""
        order, *others = SCHEMA["required"]
        text_keys = ("customer", "city", "product", "date")
        keys = [f', "{key}": ' + ('"' if key in text_keys else "") for key in others]
        return (*_VALUES, *_PHRASES, f'{{"{order}": ', *keys, '"}')

    @property
    def facts(self) -> tuple[str, ...]:
        """Names, products and numbers."""
        return (*_VALUES, *"123456789")

    def draw(self, seed: int) -> Iterator[Order]:
        """Draw orders."""
        rng, seen = random.Random(f"records {seed}"), set()
        while True:
            order = Order(
                order=rng.choice(NUMBERS),
                customer=f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
                city=rng.choice(CITIES),
                product=rng.choice(PRODUCTS),
                quantity=rng.randint(1, MAX_QUANTITY),
                unit_price=rng.choice(NUMBERS),
                day=rng.randint(1, DAYS),
                month=rng.randint(1, len(MONTHS)),
                year=rng.choice(YEARS),
                phrasing=rng.randrange(len(PHRASINGS)),
            )
            if order not in seen:
                seen.add(order)
                yield order

    def write_files(self, folder: Path, seed: int) -> None:
        """Write the schema, for people to read: every row brings it along."""
        (folder / "schema.json").write_text(json.dumps(SCHEMA, indent=2) + "\n")
