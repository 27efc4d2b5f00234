"""Documents to records: a short order, as a clerk would write it down, becomes JSON that a schema allows.

What goes wrong is what goes wrong at work: a date in the document's own form or with day and month swapped, a number
as text, a product outside the list, two numbers in each other's place, a key left out. A schema sees four of these;
the gold record sees all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

FIRST_NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ida", "Jon")
LAST_NAMES = ("Lee", "Okoro", "Silva", "Novak", "Haas", "Rossi", "Kaya", "Berg")
CITIES = ("Rome", "Oslo", "Lagos", "Lima", "Kyoto", "Quebec", "Delhi", "Porto")
PRODUCTS = ("lamp", "chair", "desk", "shelf", "sofa", "mirror", "clock", "rug")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
YEARS = (2023, 2024, 2025, 2026)
DAYS = 28
NUMBERS = range(10, 100)
MAX_QUANTITY = 9

SCHEMA = {
    "type": "object",
    "properties": {
        "order": {"type": "integer"},
        "customer": {"type": "string", "minLength": 1},
        "city": {"type": "string", "minLength": 1},
        "product": {"enum": list(PRODUCTS)},
        "quantity": {"type": "integer", "minimum": 1},
        "unit_price": {"type": "integer", "minimum": 1},
        "date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    },
    "required": ["order", "customer", "city", "product", "quantity", "unit_price", "date"],
    "additionalProperties": False,
}

PHRASINGS = (
    "Order {order} of {day} {month} {year}: {customer}, {city}, takes {quantity} {product}s at {price} each.",
    "On {day} {month} {year} {customer} from {city} bought {quantity} {product}s, {price} each. Order {order}.",
    "{quantity} {product}s for {customer} in {city}, {price} each, order {order}, {day} {month} {year}.",
)

SLIPS = ("date", "numbers", "text", "product", "city")
"""Where a hurried clerk slips; each may happen by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order and how its document is phrased."""

    order: int
    customer: str
    city: str
    product: str
    quantity: int
    unit_price: int
    day: int
    month: int
    """From 1 to 12."""
    year: int
    phrasing: int
    """Which of PHRASINGS."""

    @property
    def question(self) -> str:
        """The document."""
        return PHRASINGS[self.phrasing].format(
            order=self.order,
            customer=self.customer,
            city=self.city,
            product=self.product,
            quantity=self.quantity,
            price=self.unit_price,
            day=self.day,
            month=MONTHS[self.month - 1],
            year=self.year,
        )

    @property
    def record(self) -> dict[str, Any]:
        """The gold record."""
        return {
            "order": self.order,
            "customer": self.customer,
            "city": self.city,
            "product": self.product,
            "quantity": self.quantity,
            "unit_price": self.unit_price,
            "date": f"{self.year}-{self.month:02d}-{self.day:02d}",
        }

    @property
    def answer(self) -> str:
        """The gold record as JSON."""
        return json.dumps(self.record)

    @property
    def columns(self) -> dict[str, Any]:
        """The schema, which every row brings along."""
        return {"kind": "json_schema", "schema": SCHEMA}

    def respond(self) -> str:
        """Write the gold record in its tags."""
        return _respond(self.record)

    def respond_sloppily(self, slip_fraction: float, rng: random.Random) -> str:
        """Write a record with slips, each drawn by itself."""
        slips = [slip for slip in SLIPS if rng.random() < slip_fraction]
        return _respond(self.slipped(slips, day_first=rng.random() < 0.5))

    def slipped(self, slips: Collection[str], day_first: bool) -> dict[str, Any]:
        """Return the record with slips in it.

        Args:
            slips: some of SLIPS.
            day_first: a slip of the date writes 03.05.2024; otherwise day and month stand in each other's place.
        """
        record = self.record
        if "date" in slips:
            day, month = f"{self.day:02d}", f"{self.month:02d}"
            as_told = day_first or day == month  # swapped, these would be right
            wrong = f"{day}.{month}.{self.year}" if as_told else f"{self.year}-{day}-{month}"
            record["date"] = wrong
        if "numbers" in slips:
            record |= {"quantity": self.unit_price, "unit_price": self.quantity}
        if "text" in slips:
            record["order"] = str(self.order)
        if "product" in slips:
            record["product"] += "s"
        if "city" in slips:
            del record["city"]
        return record


def _respond(record: dict[str, Any]) -> str:
    return f"<answer>{json.dumps(record)}</answer>"
