"""Orders and their records: what is drawn, what is right, how it goes wrong."""

import json
import random
from dataclasses import replace
from itertools import islice

import jsonschema
import pytest

from rlsd_lightning.quickstart.orders import PHRASINGS, SCHEMA, SLIPS, Order
from rlsd_lightning.quickstart.records import Records
from rlsd_lightning.quickstart.text_model import build_text_tokenizer

ORDER = Order(
    order=41,
    customer="Ann Lee",
    city="Rome",
    product="lamp",
    quantity=3,
    unit_price=25,
    day=7,
    month=5,
    year=2024,
    phrasing=0,
)
ORDERS = list(islice(Records().draw(0), 300))


def test_an_order_by_hand():
    assert ORDER.question == "Order 41 of 7 May 2024: Ann Lee, Rome, takes 3 lamps at 25 each."
    assert ORDER.respond() == (
        '<answer>{"order": 41, "customer": "Ann Lee", "city": "Rome", "product": "lamp", "quantity": 3, '
        '"unit_price": 25, "date": "2024-05-07"}</answer>'
    )
    assert json.loads(ORDER.answer) == ORDER.record
    assert ORDER.columns == {"kind": "json_schema", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("slip", "changed", "allowed"),
    [
        ("numbers", {"quantity": 25, "unit_price": 3}, True),
        ("text", {"order": "41"}, False),
        ("product", {"product": "lamps"}, False),
        ("city", {"city": None}, False),
        ("date", {"date": "07.05.2024"}, False),
    ],
)
def test_slips_by_hand_and_which_of_them_the_schema_sees(slip, changed, allowed):
    record = ORDER.slipped([slip], day_first=True)
    assert record == {k: v for k, v in (ORDER.record | changed).items() if v is not None}
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(record) is allowed


def test_day_and_month_swap_only_where_that_is_wrong():
    assert ORDER.slipped(["date"], day_first=False)["date"] == "2024-07-05"
    alike = replace(ORDER, day=5)
    assert alike.slipped(["date"], day_first=False)["date"] == "05.05.2024"


def test_every_slip_of_every_order_is_wrong_and_gold_is_valid():
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for order in ORDERS:
        assert validator.is_valid(order.record)
        for slip in SLIPS:
            assert all(order.slipped([slip], day_first=d) != order.record for d in (True, False))


def test_slips_are_as_frequent_as_asked():
    rng = random.Random(0)
    assert all(order.respond_sloppily(0.0, rng) == order.respond() for order in ORDERS)
    right = [
        order.respond_sloppily(0.2, rng) == order.respond() for order in ORDERS for _ in "1234"
    ]
    # 0.8 ** 5 = 0.328; 1,200 draws: one standard deviation is 0.014.
    assert sum(right) / len(right) == pytest.approx(0.328, abs=0.05)


def test_orders_are_distinct_the_same_for_a_seed_and_come_in_every_phrasing():
    assert len(set(ORDERS)) == 300
    assert {order.phrasing for order in ORDERS} == set(range(len(PHRASINGS)))
    assert list(islice(Records().draw(0), 300)) == ORDERS
    assert list(islice(Records().draw(1), 300)) != ORDERS


def test_documents_and_records_survive_tokenising_and_are_short():
    tokenizer = build_text_tokenizer(Records().words)
    rng = random.Random(0)
    for order in ORDERS[:100]:
        for text in (order.question, order.respond(), order.respond_sloppily(0.5, rng)):
            assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer.encode(order.respond())) < 48 - 1  # the limit of a run, and the end


def test_every_fact_is_one_token():
    tokenizer = build_text_tokenizer(Records().words)
    assert all(len(tokenizer.encode(fact)) == 1 for fact in Records().facts)


def test_the_schema_is_written_for_people_to_read(tmp_path):
    Records().write_files(tmp_path, seed=0)
    assert json.loads((tmp_path / "schema.json").read_text()) == SCHEMA
