"""What becomes of completions at the limit."""

import pytest

from rlsd_lightning.data.overlength import Overlength
from rlsd_lightning.types import Completion, Verdict


def completion(length, finish_reason="stop"):
    return Completion([1] * length, [-0.1] * length, "text", finish_reason)


@pytest.mark.parametrize(
    ("length", "penalty"), [(6, 0.0), (7, -0.25), (9, -0.75), (10, -1.0), (12, -1.0)]
)
def test_the_penalty_grows_linearly_over_the_last_tokens(length, penalty):
    """Limit 10, over the last 4: free up to 6, then a quarter per token."""
    rule = Overlength(penalty_tokens=4, max_completion_tokens=10)
    found = rule.penalised(Verdict(1.0, correct=True, parts={"answer": 1.0}), completion(length))
    assert found.reward == pytest.approx(1.0 + penalty)
    assert found.parts == {"answer": 1.0, "length_penalty": pytest.approx(penalty)}
    assert found.correct


def test_without_a_penalty_a_verdict_stays_what_it_is():
    verdict = Verdict(1.0, correct=True)
    assert Overlength(max_completion_tokens=4).penalised(verdict, completion(9)) is verdict


def test_what_could_not_be_judged_is_not_punished():
    verdict = Verdict(0.0, correct=False, valid=False)
    rule = Overlength(penalty_tokens=2, max_completion_tokens=4)
    assert rule.penalised(verdict, completion(4)) is verdict


def test_only_a_completion_that_was_cut_off_is_masked_and_only_where_asked():
    keep, mask = Overlength(), Overlength(on_truncated="mask")
    cut, whole = completion(4, "length"), completion(4)
    assert [keep.masks(cut), keep.masks(whole)] == [False, False]
    assert [mask.masks(cut), mask.masks(whole)] == [True, False]


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="on_truncated is 'drop'"):
        Overlength(on_truncated="drop")
    with pytest.raises(ValueError, match="length_penalty_tokens is 5"):
        Overlength(penalty_tokens=5, max_completion_tokens=4)
