"""What holds for every verifier: gold answers get full marks, nasty text gets a verdict, soon, and always the same."""

import math
import random
import time

import pytest

from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import check_gold
from rlsd_lightning.verifiers.answer_format import AnswerFormat
from rlsd_lightning.verifiers.boolean import Boolean
from rlsd_lightning.verifiers.by_kind import ByKind
from rlsd_lightning.verifiers.grounding import Grounding
from rlsd_lightning.verifiers.json_schema import JsonSchema
from rlsd_lightning.verifiers.markup import Markup
from rlsd_lightning.verifiers.math import Math
from rlsd_lightning.verifiers.multiple_choice import MultipleChoice
from rlsd_lightning.verifiers.numeric import Numeric
from rlsd_lightning.verifiers.ocr import Ocr
from rlsd_lightning.verifiers.preference import Preference
from rlsd_lightning.verifiers.regex import Regex
from rlsd_lightning.verifiers.sql import Sql
from rlsd_lightning.verifiers.text import Text
from rlsd_lightning.verifiers.weighted_sum import WeightedSum

VERIFIERS = {
    "math": Math(),
    "numeric": Numeric(),
    "multiple_choice": MultipleChoice(),
    "boolean": Boolean(),
    "ocr": Ocr(),
    "exact": Text(rule="exact"),
    "alphanumeric": Text(rule="alphanumeric"),
    "squad_em": Text(rule="squad_em"),
    "squad_f1": Text(rule="squad_f1"),
    "rouge_l": Text(rule="rouge_l"),
    "rlsd_open_ended": Text(rule="rlsd_open_ended"),
    "grounding": Grounding(),
    "preference": Preference(),
    "markup": Markup(language="html"),
    "by_kind": ByKind(verifiers={"text": Text()}, kinds={"": "text"}),
    "weighted_sum": WeightedSum(
        parts={
            "answer": {"verifier": Text(), "weight": 0.9},
            "format": {"verifier": AnswerFormat(), "weight": 0.1},
        }
    ),
}
WITHOUT_GOLD = {
    "format": AnswerFormat(),
    "json_schema": JsonSchema(),
    "regex": Regex(),
    "sql": Sql(),
}
EXTRA = {
    "regex": {"pattern": "(4+)+"},
    "json_schema": {"schema": {"type": "object"}},
    "sql": {"schema_and_data": ""},
}
NUMBERS = ["42", "-3.5", "1,000", "28%", "6.02e23", "0"]
LITERAL = ("exact", "rlsd_open_ended")
GOLD = {
    "math": [
        *NUMBERS,
        r"\frac{1}{2}",
        "$x^2+1$",
        r"\boxed{5}",
        "(1, 2)",
        r"\text{Monday}",
        "x > 3",
    ],
    "numeric": NUMBERS,
    "multiple_choice": ["B", "(C)", "a"],
    "preference": ["1", "Response B", "tie"],
    "markup": ["<p>4</p>", "<svg><rect/></svg>"],
    "grounding": ['{"boxes": [0, 0, 10, 10]}', '{"time": [5, 15.5]}', "[0.1, 0.1, 0.5, 0.5]"],
}
WORDS = ["New York", "yes", "4", "dog"]

SIZE = 1_000_000
PIECES = [
    *(
        "a",
        " ",
        "\n",
        "\0",
        "\u202e\u05d0",
        "\ud800",
        "\u0130",
        "1",
        "1,",
        "{",
        "}",
        "(",
        "[",
        "$",
        "\\",
        "^9",
        "!",
    ),
    *("<answer>", "</answer>", "<answer></answer>", "<thought>", "</thought><answer>", "< ", "/"),
    *("\\boxed{", "\\boxed{}", "\\text{", "\\frac{", "A ", "A or ", "**", "the ", "."),
]


def gold_problems(name):
    answers = GOLD.get(name, WORDS)
    return [Problem(id=f"{name}-{i}", prompt="", answer=answer) for i, answer in enumerate(answers)]


def some_problem(name):
    answer = {"multiple_choice": "B", "grounding": "[0, 0, 1, 1]", "sql": "SELECT 4"}.get(name, "4")
    return Problem(id="1", prompt="", answer=answer, extra=EXTRA.get(name, {}))


def filled(piece):
    return (piece * (SIZE // len(piece) + 1))[:SIZE]


@pytest.mark.parametrize("name", VERIFIERS)
def test_gold_answers_get_full_marks(name):
    problems = gold_problems(name)
    check_gold(VERIFIERS[name], problems, limit=len(problems))
    for problem in problems:
        response = f"<thought></thought><answer>{problem.answer}</answer>"
        assert VERIFIERS[name].verify(problem, response).reward == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", VERIFIERS)
def test_empty_answers_and_empty_gold_are_never_right(name):
    verifier = VERIFIERS[name]
    empty = ["", " ", "\n"] if name in LITERAL else ["", " ", "\n", "$$", "\\boxed{}", "..."]
    for answer in empty:
        problem = gold_problems(name)[0]
        verdict = verifier.verify(problem, f"<thought></thought><answer>{answer}</answer>")
        assert not verdict.correct
        assert verdict.reward <= 0.1  # the form may be right
    for gold in empty:
        verdict = verifier.verify(
            Problem(id="1", prompt="", answer=gold), f"<answer>{gold}</answer>"
        )
        assert not verdict.correct
        assert not verdict.valid


@pytest.mark.parametrize("name", [*VERIFIERS, *WITHOUT_GOLD])
def test_a_megabyte_of_anything_is_judged_soon(name):
    verifier, problem = (VERIFIERS | WITHOUT_GOLD)[name], some_problem(name)
    for piece in PIECES:
        inside = filled(piece)[: SIZE - 17]
        for response in (filled(piece), f"<answer>{inside}</answer>"):
            start = time.perf_counter()
            verdict = verifier.verify(problem, response)
            assert time.perf_counter() - start < 2, (piece, "of a cheap verifier: well under 1 s")
            assert isinstance(verdict, Verdict)
            assert not verdict.correct
            assert len(verdict.reason) < 600


@pytest.mark.parametrize("name", [*VERIFIERS, *WITHOUT_GOLD])
def test_random_text_gets_a_finite_verdict_and_always_the_same(name):
    verifier, problem = (VERIFIERS | WITHOUT_GOLD)[name], some_problem(name)
    draw = random.Random(0)
    for _ in range(150):
        answer = "".join(draw.choices(PIECES, k=draw.randint(0, 12)))
        response = draw.choice(["{}", "<thought>t</thought><answer>{}</answer>"]).replace(
            "{}", answer
        )
        verdict = verifier.verify(problem, response)
        assert math.isfinite(verdict.reward)
        assert verdict == verifier.verify(problem, response)


@pytest.mark.parametrize("name", VERIFIERS)
def test_the_last_answer_counts_unless_told_otherwise(name):
    problem = gold_problems(name)[0]
    right, wrong = f"<answer>{problem.answer}</answer>", "<answer>something else</answer>"
    assert VERIFIERS[name].verify(problem, wrong + right).correct
    assert not VERIFIERS[name].verify(problem, right + wrong).correct


@pytest.mark.parametrize("build", [Math, Numeric, MultipleChoice, Boolean, Ocr, Text])
def test_first_and_sources_are_options_that_are_checked(build):
    problem = Problem(id="1", prompt="", answer="B" if build is MultipleChoice else "4")
    right, wrong = f"<answer>{problem.answer}</answer>", "<answer>something else</answer>"
    assert build(which="first").verify(problem, right + wrong).correct
    assert not build(sources=["answer"]).verify(problem, f"\\boxed{{{problem.answer}}}").correct
    assert build(sources=["boxed"]).verify(problem, f"\\boxed{{{problem.answer}}}").correct
    with pytest.raises(ValueError, match="which is 'middle'"):
        build(which="middle")
    with pytest.raises(ValueError, match="sources is"):
        build(sources=["tag"])
    with pytest.raises(ValueError, match="sources is 'answer'"):
        build(sources="answer")
