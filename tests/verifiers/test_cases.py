"""What public graders say of single responses; tests/data/verifier-cases/README.md says where the rows come from."""

import json
from pathlib import Path

import pytest

from rlsd_lightning.data.overlength import Overlength
from rlsd_lightning.types import Completion, Problem
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
from rlsd_lightning.verifiers.text import Text
from rlsd_lightning.verifiers.weighted_sum import WeightedSum

CASES = Path(__file__).parents[1] / "data" / "verifier-cases"
BY_KIND = ByKind(
    verifiers={"math": Math(), "choice": MultipleChoice(), "boolean": Boolean()},
    kinds={"math": "math", "multiple choice": "choice", "binary classification": "boolean"},
)
FORMATS = {
    "rlsd": AnswerFormat(),
    "trl_think": AnswerFormat(sections=["think"], once=True, ignore_blanks=False, after="anything"),
    "swift_think_answer": AnswerFormat(
        sections=["think", "answer"], ignore_blanks=False, between="blanks"
    ),
    "easyr1_math": AnswerFormat(sections=["think", "\\boxed"], after="anything"),
    "regex_fullmatch": Regex(),
    "rlsd_router": BY_KIND,
    "rlsd_overall": WeightedSum(
        parts={
            "answer": {"verifier": BY_KIND, "weight": 0.9},
            "format": {"verifier": AnswerFormat(), "weight": 0.1},
        }
    ),
}
LENGTH = Overlength(penalty_tokens=3072, penalty_weight=0.1, max_completion_tokens=16384)
"""The length part of RLSD's reward, which counts tokens and so is no verifier's."""
VERIFIERS = {
    "boolean": Boolean(),
    "json_schema": JsonSchema(),
    "math": Math(),
    "multiple_choice": MultipleChoice(),
    "numeric": Numeric(),
}


def rows(*names):
    """Read the rows of some files afresh."""
    found = []
    for name in names:
        lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found += [json.loads(line) for line in lines]
    return [pytest.param(row, id=row["id"]) for row in found]


def problem_of(row):
    return Problem(
        id=row["id"],
        prompt="",
        answer=row["reference"],
        kind=row["extra"].get("problem_type", ""),
        extra=row["extra"],
    )


@pytest.mark.parametrize("row", rows(*VERIFIERS))
def test_verifier_agrees_with_public_graders(row):
    verdict = VERIFIERS[row["kind"]].verify(problem_of(row), row["response"])
    assert verdict.reward == row["expected"], verdict.reason


@pytest.mark.parametrize("row", rows("ocr", "grounding"))
def test_likeness_agrees_with_public_graders(row):
    verifier = {"ocr": Ocr(), "grounding": Grounding()}[row["kind"]]
    verdict = verifier.verify(problem_of(row), row["response"])
    assert verdict.reward == pytest.approx(row["expected"], abs=1e-6), verdict.reason


@pytest.mark.parametrize("row", rows("text"))
def test_text_agrees_with_public_graders(row):
    verdict = Text().verify(problem_of(row), row["response"])
    assert verdict.reward == pytest.approx(row["expected"], abs=1e-6), verdict.reason


@pytest.mark.parametrize("row", rows("format"))
def test_form_agrees_with_public_graders(row):
    rule = row["extra"].pop("rule")  # names the format's rule, not the text's
    verdict = FORMATS[rule].verify(problem_of(row), row["response"])
    if rule == "rlsd_overall":
        verdict = LENGTH.penalised(verdict, of_length(row["extra"]["response_length"]))
    assert verdict.reward == pytest.approx(row["expected"], abs=1e-6), verdict.reason


def of_length(num_tokens):
    return Completion(
        token_ids=[0] * num_tokens, logprobs=[0.0] * num_tokens, text="", finish_reason="stop"
    )


@pytest.mark.parametrize("row", rows("format"))
def test_each_tag_only_once_is_the_strict_rule(row):
    if "strict_exactly_one" in row["extra"]:
        verdict = AnswerFormat(once=True).verify(problem_of(row), row["response"])
        assert verdict.reward == row["extra"]["strict_exactly_one"], verdict.reason


@pytest.mark.parametrize("row", rows("hostile_math"))
def test_hostile_mathematics_is_wrong_at_once(row):
    verdict = Math(time_limit_s=2).verify(problem_of(row), row["response"])
    assert verdict.valid
    assert verdict.reward == row["expected"]
