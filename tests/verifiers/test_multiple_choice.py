import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.multiple_choice import MultipleChoice, read_choice

OPTIONS = {"A": "cat", "B": "dog", "C": "cow", "D": "horse"}


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "B",
            "b",
            "(B)",
            "(b)",
            "[B]",
            "B)",
            "B.",
            "B:",
            "**B**",
            "$B$",
            r"\boxed{B}",
            r"\text{B}",
            "**(B)**",
        ),
        *(
            "Option B",
            "option b",
            "Answer: B",
            "The answer is B",
            "The correct answer is (B).",
            "choice B",
        ),
        *(
            "B. dog",
            "(B) dog",
            "B) dog",
            "B: dog",
            "B - dog",
            "The correct option is B. dog",
            "B\nIt barks",
        ),
        *("dog", "Dog.", "The dog", "a dog", "DOG"),
        *(
            "I think it is B.",
            "The answer is B, because it barks.",
            "B is correct",
            "Option B is correct.",
        ),
        *(
            "I choose B",
            "So the answer is **B**.",
            "It is (B), the dog.",
            "B because it barks",
            "B. A big dog",
        ),
    ],
)
def test_ways_to_name_an_option(answer):
    assert read_choice(answer, OPTIONS) == "B"


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "A or B",
            "B or C",
            "B and C",
            "A, B",
            "AB",
            "B/C",
            "(A) (B)",
            "(B) (A) (C)",
            "A. cat\nB. dog\nC. cow",
            "(B) a dog, (C) a cow",
            "B\nC",
            "Between (B) and (C)",
            "B. cat",
        ),
        *(
            "The answer is B or C",
            "(B) or C",
            "B) or C)",
            "not B",
            "Option B is wrong",
            "It is not (B)",
            "B is wrong",
            "The answer is not B",
            "neither A nor B",
        ),
        *(
            "Because it barks",
            "Bob",
            "A dog and a B",
            "The answer is A dog",
            "f(B)",
            "x = B",
            "5",
            "E",
            "none",
        ),
        *("I do not know", "cat dog", "b" * 3_000, "(", "()", "B" * 2),
    ],
)
def test_what_names_no_option_or_several(answer):
    assert read_choice(answer, OPTIONS) is None


def test_a_letter_that_is_an_option_comes_before_a_text_that_is_a_letter():
    assert read_choice("B", {"A": "B", "B": "A"}) == "B"


def test_the_sign_of_an_option_counts():
    options = {"A": "5", "B": "-5", "C": "1/2"}
    assert read_choice("-5", options) == "B"
    assert read_choice("5", options) == "A"
    assert read_choice("-6", options) is None


def test_two_options_of_the_same_text_are_told_apart_by_letter_only():
    options = {"A": "dog", "B": "dog"}
    assert read_choice("dog", options) is None
    assert read_choice("B", options) == "B"


def judge(verifier, gold, answer, **extra):
    problem = Problem(id="q7", prompt="", answer=gold, extra=extra, location="train.jsonl:7")
    return verifier.verify(problem, f"<answer>{answer}</answer>")


def test_options_come_as_mapping_or_list_and_the_gold_answer_as_letter_or_text():
    for options in (OPTIONS, list(OPTIONS.values())):
        for gold in ("B", "(B)", "dog"):
            assert judge(MultipleChoice(), gold, "B", options=options).correct
            assert judge(MultipleChoice(), gold, "dog", options=options).correct
            assert not judge(MultipleChoice(), gold, "C", options=options).correct


def test_without_options_the_letters_are_those_of_the_argument():
    assert judge(MultipleChoice(), "H", "H").correct
    assert not judge(MultipleChoice(letters="ABCD"), "H", "H").valid
    assert not judge(MultipleChoice(), "B", "dog").correct


def test_a_gold_answer_that_names_no_option_is_not_judged():
    verdict = judge(MultipleChoice(), "E", "E", options=OPTIONS)
    assert not verdict.valid
    assert not verdict.correct
    assert "names none of the options A, B, C, D" in verdict.reason


@pytest.mark.parametrize(
    "options", ["ABCD", [], {}, {"AB": "x"}, {"": "x"}, {"1": "x"}, 4, ["x"] * 27]
)
def test_a_fault_in_the_options_names_problem_and_place(options):
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra.options"):
        judge(MultipleChoice(), "A", "A", options=options)


@pytest.mark.parametrize("letters", ["", "abc", "A1", "A B"])
def test_letters_are_checked(letters):
    with pytest.raises(ValueError, match="letters is"):
        MultipleChoice(letters=letters)
