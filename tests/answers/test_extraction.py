import time

import pytest

from rlsd_lightning.answers.extraction import (
    MAX_BOXED_CHARS,
    MAX_WHOLE_RESPONSE_CHARS,
    between_tags,
    closing_brace,
    extract_answer,
    fenced_block,
    last_boxed,
)


def test_the_tag_comes_before_a_box_wherever_they_stand():
    assert extract_answer(r"<answer>5</answer> \boxed{3}") == "5"
    assert extract_answer(r"\boxed{3} <answer>5</answer>") == "5"
    assert extract_answer(r"\boxed{3} <answer>5</answer>", sources=["boxed", "answer"]) == "3"


def test_an_empty_tag_is_an_empty_answer_and_no_reason_to_look_further():
    assert extract_answer(r"\boxed{3} <answer></answer>") == ""


def test_a_tag_that_never_closes_is_no_answer():
    assert extract_answer("<answer>5") is None
    assert extract_answer("5</answer>") is None
    assert extract_answer("</answer>5<answer>") is None
    assert extract_answer("<answer>4</answer> wait <answer>5") == "4"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("<answer>1</answer><answer>2</answer>", "1", "2"),
        ("<answer>1<answer>2</answer>", "1<answer>2", "2"),  # first: as RLSD's expression
        ("<answer>1</answer>2</answer>", "1", "1"),
        ("<ANSWER>1</Answer>", "1", "1"),
        ("no tag", None, None),
    ],
)
def test_first_and_last_tag(text, first, last):
    assert between_tags(text, "answer", "first") == first
    assert between_tags(text, "answer", "last") == last


def test_letters_that_grow_in_lower_case_move_no_position():
    assert between_tags("\u0130" * 5 + "<Answer>5</Answer>", "answer") == "5"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{a}", "a"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{3} and \boxed{oops", "3"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{\}", None),
        (r"\boxed 5", None),
        (r"\boxed {5}", "5"),
        ("", None),
    ],
)
def test_the_last_box_whose_braces_close(text, content):
    assert last_boxed(text) == content


def test_a_box_is_followed_only_so_far():
    assert last_boxed("\\boxed{" + "a" * (MAX_BOXED_CHARS - 10) + "}") is not None
    assert last_boxed("\\boxed{" + "a" * (MAX_BOXED_CHARS + 10) + "}") is None


def test_the_whole_response_counts_only_where_it_is_asked_for_and_short():
    assert extract_answer(" 5 ") is None
    assert extract_answer(" 5 ", sources=["answer", "response"]) == "5"
    assert extract_answer("5" * (MAX_WHOLE_RESPONSE_CHARS + 1), sources=["response"]) is None


def test_a_brace_behind_a_backslash_does_not_count():
    assert closing_brace(r"{\{}", 0) == 3
    assert closing_brace(r"{\\}", 0) == 3  # a line break, then a brace
    assert closing_brace("a", 0) == -1


@pytest.mark.parametrize("piece", ["<answer>", "</answer>", "\\boxed{", "{", "\\boxed{a", " "])
def test_time_grows_no_faster_than_the_text(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.perf_counter()
    extract_answer(text)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("```\n1\n```", "1\n", "1\n"),
        ("a\n```json\n1\n```\nb\n  ```\n2\n  ```", "1\n", "2\n"),
        ("```\n1\n```\n```\n2", "1\n", "1\n"),  # the second never closes
        ("```\n```", "", ""),
        ("say ``` and\n``` no more", None, None),
        ("no fence", None, None),
    ],
)
def test_fenced_blocks(text, first, last):
    assert fenced_block(text, "first") == first
    assert fenced_block(text) == last


def test_a_megabyte_of_fences_is_read_soon():
    for piece in ("```\n", "`", "```a\nb\n"):
        start = time.perf_counter()
        fenced_block(piece * (1_000_000 // len(piece)))
        assert time.perf_counter() - start < 2
