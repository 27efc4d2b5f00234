import datetime
import decimal
import fractions
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsd_lightning.sandbox.values import NotPlainError, decode, encode

Point = namedtuple("Point", "x y")
PLAIN = [
    *(None, True, 0, -(2**63), 2**64, 1.5, -math.inf, "a\ud800", b"\xff", bytearray(b"x"), 1j),
    *([1, [2]], (1, (2,)), {1, 2}, frozenset({3}), {(1, 2): [3], "a": None}, range(1, 9, 2)),
    *(deque([1, 2]), fractions.Fraction(1, 3), decimal.Decimal("1.10"), 10**5000),
    *(datetime.date(2024, 1, 31), datetime.datetime(2024, 1, 31, 5), datetime.time(5, 6)),
    datetime.timedelta(days=1, microseconds=3),
]
HOSTILE = [
    {"t": "int", "v": "x"},
    {"t": "int", "v": []},
    {"t": "set", "v": [[1]]},
    {"t": "dict", "v": [[1]]},
    {"t": "dict", "v": 3},
    {"t": "range", "v": [1, 2, 0]},
    {"t": "range", "v": [1, 2, 3, 4]},
    {"t": "decimal.Decimal", "v": "x"},
    {"t": "fractions.Fraction", "v": "1/0"},
    {"t": "datetime.date", "v": 3},
    {"t": "os.system", "v": "ls"},
    {"t": ["int"], "v": 3},
    {"v": 3},
    {},
]


def there_and_back(value):
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: f"{type(value).__name__}")
def test_plain_values_arrive_as_what_they_were(value):
    arrived = there_and_back(value)
    assert type(arrived) is type(value)
    assert arrived == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=50, deadline=None)
def test_whatever_is_nested_arrives(value):
    assert there_and_back(value) == value


@pytest.mark.parametrize(
    ("value", "arrived"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, 2), (1, 2)),
        ({"a": 1}.keys(), {"a"}),
        ({"a": 1}.values(), [1]),
        (type("Half", (float,), {"__eq__": lambda *_: True})(0.5), 0.5),
        (type("Text", (str,), {"__str__": lambda _: "b"})("a"), "a"),
    ],
)
def test_what_is_nearly_plain_arrives_as_what_it_is_a_kind_of(value, arrived):
    assert there_and_back(value) == arrived
    assert type(there_and_back(value)) is type(arrived)


def test_what_is_not_plain_goes_nowhere_by_itself():
    for value in (object(), print, [lambda: 1], type, iter([1])):
        with pytest.raises(NotPlainError):
            encode(value)
    nested = []
    for _ in range(1000):
        nested = [nested]
    with pytest.raises(NotPlainError, match="nested too deeply"):
        encode(nested)


@pytest.mark.parametrize("data", HOSTILE, ids=str)
def test_hostile_data_is_an_error_of_one_kind(data):
    with pytest.raises(NotPlainError):
        decode(data)
