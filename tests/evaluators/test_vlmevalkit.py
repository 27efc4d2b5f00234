import json
import time
from pathlib import Path
from string import ascii_uppercase

import pytest

from rlsd_lightning.evaluators.vlmevalkit import can_infer, can_infer_option, can_infer_text

PARITY = Path(__file__).parents[1] / "data" / "parity"
ABCD = dict(zip("ABCD", ("first one", "second one", "third one", "fourth one"), strict=True))


def parity_rows(name):
    """Rows whose expectation is a letter; a free-form row's is a number or the response."""
    path = PARITY / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in rows if "vlmevalkit" in row["expected"]]


def lettered(options):
    return dict(zip(ascii_uppercase, options, strict=False))


@pytest.mark.parametrize("row", parity_rows("mmmu"), ids=lambda row: row["row"])
def test_parity_with_mmmu_as_vlmevalkit_scores_it(row):
    choices = lettered(row["options"]) or {"A": row["answer"], "B": "Other Answers"}
    assert (can_infer(row["response"], choices) or "Z") == row["expected"]["vlmevalkit"]["opt"]


@pytest.mark.parametrize(
    "response", ["B", "(B)", "**B**", "#B#", "{B}", "[B];", "B!", "\nB.\n", "B,B"]
)
def test_a_letter_is_read_through_brackets_and_punctuation(response):
    assert can_infer_option(response, ABCD) == "B"


@pytest.mark.parametrize("response", ["<B>", '"B"', "B-", "b", "$B$", "B/C", "B?", "'B'"])
def test_other_signs_and_lower_case_hide_a_letter(response):
    assert can_infer_option(response, ABCD) is None


def test_two_letters_decide_nothing_even_when_one_is_last():
    assert can_infer_option("not A but B", ABCD) is None


def test_a_letter_counts_only_where_it_first_occurs_among_the_last_four_words():
    assert can_infer_option("we take C from it all", ABCD) == "C"  # 3rd of 6: 4 words are left
    assert can_infer_option("we take C from it all too", ABCD) is None  # 5 are left
    assert can_infer_option("C is it , so the answer must be C", ABCD) is None  # first at the front


def test_answer_is_counts_wherever_it_stands_and_the_first_one_wins():
    tail = " because of all these many reasons that follow"
    assert can_infer_option("The Correct  Answer IS **b**" + tail, ABCD) == "B"
    assert can_infer_option("the answer is a compression force", ABCD) == "A"
    assert can_infer_option("the answer is C, no, the answer is D" + tail, ABCD) == "C"
    assert (
        can_infer_option("the answer is D" + tail, {"A": "x", "B": "y"}) is None
    )  # no such option
    assert can_infer_option("the answer is E" + tail, lettered("vwxyz")) is None  # A to D only
    assert can_infer_option("the answer is: B" + tail, ABCD) is None  # a colon in between


def test_refusals_are_z():
    assert can_infer("Cannot determine the answer. B", ABCD) == "Z"
    assert can_infer("I'm sorry, but without the image provided I guess A", ABCD) == "Z"
    assert can_infer("Z", ABCD) == "Z"
    assert can_infer("Z or B", ABCD) == "B"  # an option's letter goes first
    assert can_infer("Z or A or B", ABCD) is None  # and two of them are no refusal


def test_a_failed_call_names_no_letter_but_its_text_is_still_read():
    assert can_infer_option("Failed to obtain answer via API B", ABCD) is None
    failed = "Failed to obtain answer via API"
    assert can_infer(failed, {"A": "api", "B": "a long enough option"}) == "A"


def test_text_is_read_in_any_case_if_exactly_one_option_occurs():
    assert can_infer_text("the SECOND one", ABCD) == "B"
    assert can_infer_text("the second one or the third one", ABCD) is None
    assert can_infer_text("none of them", ABCD) is None
    assert can_infer_text("12", {"A": "1", "B": "12"}) is None  # one text within the other


def test_text_is_read_from_short_responses_only():
    choices = {"A": "abc", "B": "xy"}  # 5 characters: up to 10 are read
    assert can_infer_text("abc" + "." * 7, choices) == "A"
    assert can_infer_text("abc" + "." * 8, choices) is None
    assert can_infer_text("", {}) is None


def test_choices_are_left_as_they_are():
    choices = {"A": "UPPER", "B": "Mixed"}
    can_infer("upper", choices)
    assert choices == {"A": "UPPER", "B": "Mixed"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A " * 500_000,
        "answer is e " * 80_000,
        "correct " * 125_000,
        "correct" + " " * 1_000_000,
        "answer is" + " " * 500_000 + "*" * 500_000,
        "{" * 1_000_000,
        "\x00" * 1_000_000,
        "\u202eB\u202c" * 100_000,
        "\ud800" * 1_000_000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_hostile_text_decides_nothing_and_takes_no_time(text):
    start = time.process_time()
    assert can_infer(text, lettered(["one", "text", "that", "is", "long"])) is None
    assert time.process_time() - start < 1
