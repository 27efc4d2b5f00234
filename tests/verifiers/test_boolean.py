import time

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.boolean import Boolean, read_boolean


def judge(gold, answer):
    return Boolean().verify(Problem(id="1", prompt="", answer=gold), f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "YES", "Yes!", " true. ", "T", "y", "1", "Yeah", "correct"),
        *(
            r"\text{Yes}",
            "**True**",
            "$1$",
            '"yes"',
            "It is true.",
            "Answer: yes",
            "The answer is **yes**.",
        ),
        *(
            "Yes, it is red.",
            "Yes - two of them",
            "True because 2 is even",
            "Yes, there is no dog",
            "Yes.\nIt is true.",
        ),
        "The statement is true, since 2 is even.",
    ],
)
def test_what_says_yes(text):
    assert read_boolean(text) is True


@pytest.mark.parametrize(
    "text",
    [
        *("no", "No.", "FALSE", "f", "n", "0", "nope", "incorrect"),
        *(
            r"\boxed{No}",
            "It is false",
            "The final answer is: no",
            "No, there is no dog.",
            "No; it is false.",
        ),
        "No, no doubt.",
    ],
)
def test_what_says_no(text):
    assert read_boolean(text) is False


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "   ",
            "$$",
            "maybe",
            "2",
            "10",
            "01",
            "-1",
            "I know",
            "nothing",
            "truly",
            "noyes",
            "yesno",
        ),
        *(
            "yes or no",
            "Yes/No",
            "yes, no",
            "Yes. No.",
            "no, yes",
            "yes and no",
            "not true",
            "not yes",
            "no - true",
        ),
        *(
            "Yes, or no if it rains",
            "Yes, but no as well",
            "Yes, maybe",
            "No, I am not sure",
            "True, false",
            "yes no",
        ),
        *("\u0661", "y e s", "yes" * 1000, "Yes, " + "x" * 3000),  # an Arabic one; essays
    ],
)
def test_what_says_neither_or_both(text):
    assert read_boolean(text) is None


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("Yes", "true", True),
        ("1", "Yes", True),
        ("False", "no", True),
        ("No", "yes", False),
        ("True", "0", False),
        ("No", "I know", False),
        ("Yes", "yes or no", False),
        ("No", "yes or no", False),
        ("$Yes$", "yes", True),
    ],
)
def test_all_spellings_are_one(gold, answer, correct):
    assert judge(gold, answer).correct is correct


@pytest.mark.parametrize(
    ("answer", "correct"), [("healthy", True), ("Healthy.", True), ("ill", False), ("yes", False)]
)
def test_another_label_is_itself_only(answer, correct):
    assert judge("Healthy", answer).correct is correct


def test_left_and_right_are_labels():
    assert judge("right", "right").correct
    assert not judge("right", "correct").correct


def test_nothing_is_never_right():
    assert not judge("", "").valid
    assert not judge("Yes", "").correct
    assert judge("Yes", "").valid


def test_fifty_thousand_rows_take_seconds():
    problem, verifier = Problem(id="1", prompt="", answer="Yes"), Boolean()
    start = time.process_time()
    for _ in range(2_000):
        verifier.verify(problem, "<thought>It is.</thought><answer>Yes</answer>")
    assert time.process_time() - start < 0.4
