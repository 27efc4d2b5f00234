import math

import pytest
import torch

from rlsd_lightning.evaluators.accuracy import Accuracy, scores, tally
from rlsd_lightning.types import Problem, Verdict


class Marked:
    """Judges by what the response says: "right", "half" or "unclear"; anything else is wrong."""

    def verify(self, problem, response):
        reward = {"right": 1.0, "half": 0.5}.get(response.split()[0], 0.0)
        return Verdict(reward=reward, correct=reward == 1, valid="unclear" not in response)


PROBLEM = Problem(id="1", prompt="")


def updated(responses, **kwargs):
    metric = Accuracy(verifier=Marked(), **kwargs)
    metric.update([PROBLEM] * len(responses), responses)
    return metric


def test_scores_by_hand():
    found = updated(["right", "half", "wrong", "unclear"]).compute()
    assert found == {
        "accuracy": pytest.approx(1 / 3),  # the unclear one counts for nothing
        "reward": pytest.approx(0.5),  # 1.5 / 3
        "invalid_fraction": 0.25,
        "num_responses": 4.0,
    }
    assert all(type(value) is float for value in found.values())


def test_several_updates_are_one_large_one():
    metric = updated(["right", "wrong"])
    metric.update([PROBLEM], ["half"])
    assert metric.compute() == updated(["right", "wrong", "half"]).compute()
    metric.reset()
    metric.update([PROBLEM], ["right"])
    assert metric.compute()["num_responses"] == 1


def test_leakage_is_counted_in_any_case_and_once_per_response():
    responses = ["right As the Reference says", "wrong REFERENCE reference", "right", "half"]
    assert updated(responses, leak_pattern="reference").compute()["leakage"] == 0.5
    assert (
        updated(responses, leak_pattern=["as the", "given solution"]).compute()["leakage"] == 0.25
    )
    assert "leakage" not in updated(responses).compute()


def test_a_response_that_is_not_judged_can_still_leak():
    assert updated(["unclear reference"], leak_pattern="reference").compute()["leakage"] == 1


def test_nothing_judged_is_not_zero():
    found = updated(["unclear"]).compute()
    assert math.isnan(found["accuracy"])
    assert found["invalid_fraction"] == 1


def test_ranks_are_added_up():
    other = tally([Verdict(0.0, False)] * 3, ["", "", ""], [])
    metric = updated(["right"])
    metric.dist_sync_fn = lambda state, group: [state, other]
    metric.distributed_available_fn = lambda: True
    assert metric.compute()["accuracy"] == 0.25
    assert metric.compute()["num_responses"] == 4


def test_sums_stay_exact_when_the_model_is_cast():
    metric = updated(["right"]).to(torch.bfloat16)
    for _ in range(300):
        metric.update([PROBLEM], ["right"])
    assert metric.compute()["num_responses"] == 301  # bfloat16 would stop at 256
    assert metric.compute()["reward"] == 1


def test_scores_of_nothing():
    assert math.isnan(scores(torch.zeros(5, dtype=torch.int64))["accuracy"])


@pytest.mark.parametrize("pattern", ["", [], ["reference", ""], [1]])
def test_a_leak_pattern_that_finds_everything_or_nothing_is_refused(pattern):
    with pytest.raises(ValueError, match="leak_pattern is"):
        Accuracy(verifier=Marked(), leak_pattern=pattern)
