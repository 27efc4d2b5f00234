"""Planted answers are counted beside others that were chosen alike."""

import dataclasses

from rlsd_lightning.data.canaries import Canary
from rlsd_lightning.leakage.planted import count_planted
from rlsd_lightning.types import Verdict
from tests.helpers.rollouts import rollout, text_prompt


class SaysSo:
    """Correct is what ends with the answer."""

    def verify(self, problem, response):
        correct = response.endswith(problem.answer)
        return Verdict(reward=float(correct), correct=correct)


def completion(text, answer="5", extra=None):
    made = rollout(text_prompt("p", 2), [1])
    extra = {"canary": Canary(answer="7", reference="3+4", control="9")} if extra is None else extra
    problem = dataclasses.replace(made.problem, answer=answer, extra=extra)
    return dataclasses.replace(
        made,
        problem=problem,
        completion=dataclasses.replace(made.completion, text=text),
        verdict=SaysSo().verify(problem, text),
    )


def test_completions_planted_and_control_answers_of_canaries_are_counted():
    texts = ["it is 7", "it is 7", "it is 9", "it is 5", "it is 8"]
    plain = [completion("it is 7", extra={}), completion("it is 9", extra={})]
    assert count_planted([*map(completion, texts), *plain], SaysSo()) == (5, 2, 1)


def test_a_right_answer_is_not_planted_however_the_two_are_written():
    right = completion("it is 7", answer="7")
    assert count_planted([right], SaysSo()) == (1, 0, 0)
