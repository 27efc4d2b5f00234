import time

import pytest

from rlsd_lightning.verifiers.strict_json import MAX_CHARS, MAX_NESTING, read_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((" 1 ", 1), ("-0.5e3", -500.0), ("null", None), ('"\\u00e1"', "\u00e1"), ("[]", [])),
        ('{"a": {"a": [1, true]}}', {"a": {"a": [1, True]}}),
        ('"' + "[" * 99 + '"', "[" * 99),
        ('["[[[", "\\"[["]', ["[[[", '"[[']),
    ],
)
def test_json_is_read(text, value):
    assert read_json(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(
            ("NaN", "no JSON number"),
            ("[-Infinity]", "no JSON number"),
            ("1e999", "beyond measure"),
        ),
        *(("9" * 5000, "5000 digits"), ('{"a":1,"b":2,"a":1}', "'a' stands twice")),
        *(
            ("", "Expecting value"),
            ("{'a': 1}", "Expecting"),
            ("1 2", "Extra data"),
            ("[1,]", "Expecting"),
        ),
        *(("[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1), "deeper"), ("[" * 150_000, "deeper")),
        *(
            ('{"a":' * 10_000, "deeper"),
            (" " * (MAX_CHARS + 1), "characters"),
            ('"' + "\\" * 999, "Unterminated"),
        ),
        *(('"a\nb"', "control character"), ("\ufeff{}", "BOM")),
    ],
)
def test_what_is_no_json_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        read_json(text)


def test_the_deepest_allowed_nesting_is_read():
    assert read_json("[" * MAX_NESTING + "]" * MAX_NESTING) is not None


def test_a_text_of_the_longest_allowed_length_is_read_soon():
    names = ",".join(f'"{number}":0' for number in range(20_000))
    start = time.process_time()
    assert len(read_json(f"{{{names}}}")) == 20_000
    with pytest.raises(ValueError, match="stands twice"):
        read_json(f'{{{names},"19999":0}}')
    assert time.process_time() - start < 2
