"""What a pool asks of verifiers: the same verdict at once, and what of a response the verdict depends on."""

import itertools

import pytest

from rlsd_lightning.interfaces import verify_quickly, what_counts
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.answer_format import AnswerFormat
from rlsd_lightning.verifiers.boolean import Boolean
from rlsd_lightning.verifiers.by_kind import ByKind
from rlsd_lightning.verifiers.grounding import Grounding
from rlsd_lightning.verifiers.json_schema import JsonSchema
from rlsd_lightning.verifiers.math import Math
from rlsd_lightning.verifiers.multiple_choice import MultipleChoice
from rlsd_lightning.verifiers.numeric import Numeric
from rlsd_lightning.verifiers.ocr import Ocr
from rlsd_lightning.verifiers.regex import Regex
from rlsd_lightning.verifiers.sql import Sql
from rlsd_lightning.verifiers.text import Text
from rlsd_lightning.verifiers.weighted_sum import WeightedSum


def with_format(verifier):
    form = {"verifier": AnswerFormat(), "weight": 0.1}
    return WeightedSum(parts={"answer": {"verifier": verifier, "weight": 0.9}, "format": form})


def routed(**verifiers):
    return ByKind(verifiers=verifiers, kinds={name: name for name in verifiers})


QUICK = {
    "multiple_choice": (MultipleChoice(), "B", {"options": ["cat", "dog"]}),
    "numeric": (Numeric(), "4", {}),
    "boolean": (Boolean(), "yes", {}),
    "grounding": (Grounding(), "[0, 0, 1, 1]", {}),
    "answer_format": (AnswerFormat(), "", {}),
    "exact": (Text(rule="exact"), "dog", {}),
    "squad_f1": (Text(rule="squad_f1"), "the dog", {}),
    "short_open_ended": (Text(rule="rlsd_open_ended"), "dog", {}),
    "summed": (with_format(Numeric()), "4", {}),
    "routed": (routed(summed=with_format(Boolean())), "yes", {}),
}
SLOW = {
    "ocr": (Ocr(), "dog", {}),
    "rouge_l": (Text(rule="rouge_l"), "a dog", {}),
    "long_open_ended": (Text(rule="rlsd_open_ended"), "dog", {"references": ["a dog and a cat"]}),
    "regex": (Regex(), "", {"pattern": "d+"}),
    "json_schema": (JsonSchema(), "", {"schema": {"type": "object"}}),
    "sql": (Sql(), "SELECT 4", {"schema_and_data": ""}),
    "summed": (with_format(Ocr()), "dog", {}),
    "routed": (routed(summed=with_format(Ocr())), "dog", {}),
}
ANSWERS = ["4", "B", "dog", "[0, 0, 1, 1]", "{}", "yes", "", "A dog?"]
RESPONSES = [
    shape.format(answer=answer)
    for answer in ANSWERS
    for shape in ("<thought>a</thought><answer>{answer}</answer>", "b<answer>{answer}</answer>")
]


def problem_for(name, case):
    _, answer, extra = case
    return Problem(id="1", prompt="", answer=answer, kind="summed", extra=extra)


@pytest.mark.parametrize("name", QUICK)
def test_quick_verifiers_say_at_once_what_they_say(name):
    verifier, problem = QUICK[name][0], problem_for(name, QUICK[name])
    verdicts = [verifier.verify(problem, response) for response in RESPONSES]
    assert [verify_quickly(verifier, problem, response) for response in RESPONSES] == verdicts
    assert len({verdict.reward for verdict in verdicts}) > 1


@pytest.mark.parametrize("name", SLOW)
def test_slow_verifiers_say_nothing_at_once(name):
    verifier, problem = SLOW[name][0], problem_for(name, SLOW[name])
    assert {verify_quickly(verifier, problem, response) for response in RESPONSES} == {None}


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("4", "4"),
        ("0.5", "50%"),
        ("4", "5"),
        (r"\frac{1}{2}", r"$\frac{1}{2}$"),
        ("x", "."),
        ("", "5"),
        ("x" * 600, "x"),
    ],
)
def test_mathematics_is_judged_at_once_where_nothing_is_worked_out(gold, answer):
    problem = Problem(id="1", prompt="", answer=gold)
    response = f"<answer>{answer}</answer>"
    assert verify_quickly(Math(), problem, response) == Math().verify(problem, response)


@pytest.mark.parametrize("answer", [r"\frac{2}{4}", "9^{9^{9}}", "x+1", "1/2", "4" * 600])
def test_mathematics_that_is_worked_out_takes_its_time(answer):
    problem = Problem(id="1", prompt="", answer="0.5")
    assert verify_quickly(Math(), problem, f"<answer>{answer}</answer>") is None


@pytest.mark.parametrize("case", [*SLOW.values(), (with_format(Math()), "4", {})])
def test_what_counts_decides_the_verdict(case):
    verifier, problem = case[0], problem_for("", case)
    groups = {}
    for response in [*RESPONSES, *(f"{text}<answer></answer>" for text in RESPONSES)]:
        key = what_counts(verifier, problem, response)
        groups.setdefault(key, []).append(verifier.verify(problem, response))
    assert len(groups) < 2 * len(RESPONSES)
    for verdicts in groups.values():
        assert all(one == other for one, other in itertools.pairwise(verdicts))


def test_of_a_verifier_that_says_nothing_of_itself_the_whole_response_counts():
    class Plain:
        def verify(self, problem, response):
            return Verdict(1.0, True)

    problem = Problem(id="1", prompt="")
    assert what_counts(Plain(), problem, "<answer>4</answer>") == "<answer>4</answer>"
    assert verify_quickly(Plain(), problem, "<answer>4</answer>") is None
