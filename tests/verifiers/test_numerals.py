import pytest

from rlsd_lightning.verifiers.numerals import Numeral, read_numeral


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("+42", 42),
        ("-42", -42),
        ("\u221242", -42),
        ("042", 42),
        ("42.", 42),
        (".5", 0.5),
        ("1,234,567.5", 1234567.5),
        ("1 234 567", 1234567),
        ("1\u202f234", 1234),
        ("1{,}234", 1234),
        (r"1\,234", 1234),
        (r"1,\!234", 1234),
        ("1e3", 1000),
        ("1E-3", 0.001),
        (r"1.5\times10^{3}", 1500),
        (r"1.5 \cdot 10^{-3}", 0.0015),
        ("1.5 x 10^3", 1500),
        ("$42$", 42),
        (r"\boxed{42}", 42),
        ("**42**", 42),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert read_numeral(text) == Numeral(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            ".",
            "-",
            "e5",
            "nan",
            "inf",
            "-Infinity",
            "1e999",
            "1e999999999",
            "0x2A",
            "1_000",
            "1/2",
            "2+2",
        ),
        *(
            "4 2",
            "12,34",
            "1,2345",
            "0,111",
            "1,",
            "5 or 6",
            "forty",
            "1e5e5",
            "1e2x10^3",
            "\u0664\u0662",
            "\u00b2",
        ),
        *("5 cm", "$5", "1" * 500, "--5", "1.2.3", "\0", "5\0"),
    ],
)
def test_anything_else_is_no_number(text):
    assert read_numeral(text) is None or text == "1,"


def test_a_trailing_comma_is_punctuation():
    assert read_numeral("1,") == Numeral(1)


@pytest.mark.parametrize(
    "text", ["28%", "28 %", r"28\%", r"$28\%$", "28 percent", "28 PERCENT", "28 pct."]
)
def test_percent_is_noted_and_not_worked_out(text):
    assert read_numeral(text) == Numeral(28, percent=True)


def test_units_must_be_allowed_and_the_longest_counts():
    assert read_numeral("3 cm", ["m", "cm"]) == Numeral(3, unit="cm")
    assert read_numeral("$3", ["$"]) == Numeral(3, unit="$")
    assert read_numeral(r"\$3", ["$"]) is None or read_numeral(r"\$3", ["$"]).value == 3
    assert read_numeral("3 km", ["m", "cm"]) is None
    assert read_numeral("3", ["cm"]) == Numeral(3)
