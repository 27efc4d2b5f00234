import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.answer_format import AnswerFormat
from rlsd_lightning.verifiers.numeric import Numeric
from rlsd_lightning.verifiers.regex import Regex
from rlsd_lightning.verifiers.text import Text
from rlsd_lightning.verifiers.weighted_sum import WeightedSum

PROBLEM = Problem(id="1", prompt="", answer="4")
RIGHT, WELL_FORMED = "<answer>4</answer>", "<thought></thought><answer>5</answer>"


def parts(answer_weight=0.9, format_weight=0.1):
    return {
        "answer": {"verifier": Text(), "weight": answer_weight},
        "format": {"verifier": AnswerFormat(), "weight": format_weight},
    }


def test_rewards_are_weighted_and_parts_are_kept_as_they_are():
    verifier = WeightedSum(parts=parts())
    both = verifier.verify(PROBLEM, "<thought></thought><answer>4</answer>")
    assert both.reward == pytest.approx(1.0, abs=1e-12)
    assert both.parts == {"answer": 1.0, "format": 1.0}
    form_only = verifier.verify(PROBLEM, WELL_FORMED)
    assert form_only.reward == pytest.approx(0.1, abs=1e-12)
    assert form_only.parts == {"answer": 0.0, "format": 1.0}


def test_correctness_is_the_first_parts_or_the_named_ones():
    assert WeightedSum(parts=parts()).verify(PROBLEM, RIGHT).correct
    assert not WeightedSum(parts=parts()).verify(PROBLEM, WELL_FORMED).correct
    by_form = WeightedSum(parts=parts(), correct_part="format")
    assert not by_form.verify(PROBLEM, RIGHT).correct
    assert by_form.verify(PROBLEM, WELL_FORMED).correct


def test_a_part_that_is_not_judged_makes_the_whole_not_judged():
    verdict = WeightedSum(parts=parts()).verify(Problem(id="1", prompt=""), WELL_FORMED)
    assert not verdict.valid
    assert verdict.reward == 0  # although the form is right
    assert set(verdict.parts) == {"answer", "format"}  # every rank reports the same names


def test_what_is_not_judged_is_not_correct_whatever_its_other_parts_say():
    number = {"verifier": Numeric(), "weight": 0.5}  # "cat" is no number, so it cannot judge
    verifier = WeightedSum(parts={"answer": {"verifier": Text(), "weight": 0.5}, "number": number})
    verdict = verifier.verify(Problem(id="1", prompt="", answer="cat"), "<answer>cat</answer>")
    assert verdict.parts["answer"] == 1
    assert not verdict.valid
    assert not verdict.correct


@pytest.mark.parametrize(
    "weights",
    [
        (0.9, 0.2),
        (1.0, 0.0),
        (1.1, -0.1),
        (float("nan"), 0.1),
        (float("inf"), 0.1),
        ("0.9", 0.1),
        (True, 0),
    ],
)
def test_weights_are_checked(weights):
    with pytest.raises(ValueError, match="the weights are"):
        WeightedSum(parts=parts(*weights))


def test_the_parts_check_the_problems():
    regex = {"answer": {"verifier": Regex(), "weight": 0.9}, "format": parts()["format"]}
    sound = Problem(id="1", prompt="", extra={"pattern": "a"})
    WeightedSum(parts=regex).check(iter([sound]))
    with pytest.raises(ValueError, match=r"problem '2': extra\.pattern is None"):
        WeightedSum(parts=regex).check(iter([sound, Problem(id="2", prompt="")]))


def test_parts_are_checked():
    with pytest.raises(ValueError, match="parts is empty"):
        WeightedSum(parts={})
    with pytest.raises(ValueError, match=r"parts\.answer has verifier, but"):
        WeightedSum(parts={"answer": {"verifier": Text()}})
    with pytest.raises(ValueError, match=r"parts\.answer has verifier, weight"):
        WeightedSum(parts={"answer": {"verifier": "text", "weight": 1.0}})
    with pytest.raises(
        ValueError, match="correct_part is 'form', but the parts are answer, format"
    ):
        WeightedSum(parts=parts(), correct_part="form")
