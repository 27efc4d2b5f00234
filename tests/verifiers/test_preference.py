"""Which of two responses is better: labels as words, and nothing for what names two of them."""

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.preference import Preference, read_preference

FIRST = ["1", "A", "(a)", "Response 1", "response A is better", "first", "The first one.", "**1**"]
SECOND = ["2", "B", "Response 2", "Response B.", "second", "I prefer the second response"]
TIE = ["tie", "Tie.", "Two responses are equally good", "Both are good", "equal"]
NOTHING = ["", "3", "Response 1 and Response 2", "properties", "neither", "x" * 501, "Response 12"]


@pytest.mark.parametrize(
    ("answers", "label"), [(FIRST, "first"), (SECOND, "second"), (TIE, "tie"), (NOTHING, None)]
)
def test_labels_are_read(answers, label):
    assert {answer: read_preference(answer) for answer in answers} == dict.fromkeys(answers, label)


def test_an_answer_is_right_if_it_prefers_what_the_gold_answer_prefers():
    problem = Problem(id="1", prompt="", answer="Response 2")
    assert Preference().verify(problem, "<answer>B</answer>").reward == 1.0
    assert Preference().verify(problem, "<answer>1</answer>").reward == 0.0
    assert Preference().verify(problem, "<answer></answer>").reward == 0.0
    assert Preference(which="first").verify(problem, "<answer>2</answer><answer>1</answer>").correct


def test_a_gold_answer_that_prefers_nothing_cannot_be_judged():
    verdict = Preference().verify(Problem(id="1", prompt="", answer="maybe"), "<answer>1</answer>")
    assert not verdict.valid
