"""What no text and no problem may do to a verifier: raise, pay what is no number, or take more than linear time.

Texts are drawn from what breaks parsers: tags, boxes, brackets, signs and digits, code points without a character. The
default run draws few of them, always the same; the slow one draws many.
"""

import json
import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rlsd_lightning.answers.extraction import (
    between_tags,
    extract_answer,
    fenced_block,
    last_boxed,
)
from rlsd_lightning.interfaces import verify_quickly, what_counts
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.answer_format import AnswerFormat
from rlsd_lightning.verifiers.boolean import Boolean
from rlsd_lightning.verifiers.by_kind import ByKind
from rlsd_lightning.verifiers.code import Code
from rlsd_lightning.verifiers.expressions import read_expression
from rlsd_lightning.verifiers.grounding import Grounding
from rlsd_lightning.verifiers.http import Http
from rlsd_lightning.verifiers.json_record import JsonRecord
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

ROOT = Path(__file__).parents[2]
FIXED = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],  # to look for the smallest text that fails can take hours
}
FEW = settings(max_examples=25, **FIXED)
FEWEST = settings(max_examples=4, **FIXED)
MANY = settings(max_examples=400, **FIXED)
SOME = settings(max_examples=60, **FIXED)

GIOU = Grounding(metric="giou")
VERIFIERS = {
    "answer_format": AnswerFormat(),
    "boxed_format": AnswerFormat(sections=["think", "\\boxed"], once=True, between="blanks"),
    "boolean": Boolean(),
    "grounding": Grounding(),
    "giou": GIOU,
    "json_record": JsonRecord(),
    "json_schema": JsonSchema(),
    "markup": Markup(language="html"),
    "math": Math(time_limit_s=0.5),
    "multiple_choice": MultipleChoice(),
    "numeric": Numeric(rel_tol=1e-6, units=["cm", "$"], words=True),
    "numeric_rounded": Numeric(rounded_to=2, which="first"),
    "ocr": Ocr(),
    "anls": Ocr(metric="anls"),
    "preference": Preference(),
    "regex": Regex(time_limit_s=0.2),
    "text": Text(),
    "squad_f1": Text(rule="squad_f1"),
    "rouge": Text(rule="rlsd_open_ended"),
    "by_kind": ByKind(verifiers={"numeric": Numeric(), "text": Text()}, kinds={"": "text"}),
    "weighted_sum": WeightedSum(
        parts={
            "answer": {"verifier": Boolean(), "weight": 0.7},
            "likeness": {"verifier": Ocr(), "weight": 0.3},
        }
    ),
}
OUTSIDE = {"code": Code(), "sql": Sql(), "http": Http(url="http://127.0.0.1:9", retries=0)}
"""They start processes, or ask a service: a few examples only."""
LOWEST = {"giou": -1.0}
PROBLEM = {
    "json_schema": {"schema": {"type": "object", "properties": {"a": {"type": "number"}}}},
    "regex": {"pattern": "(a|b|ab)*c|\\d+"},
    "code": {"mode": "stdin_stdout", "inputs": ["1"], "outputs": ["1"]},
    "sql": {"schema_and_data": "CREATE TABLE t(a); INSERT INTO t VALUES (1);"},
}
GOLD = {
    "grounding": '{"time": [1, 2], "boxes": {"7": [0, 0, 1, 1]}}',
    "giou": "[0, 0, 1, 1]",
    "json_record": '{"a": 1, "b": [1, {"c": null}]}',
    "markup": "<svg><g/></svg>",
    "math": "\\frac{1}{2}",
    "multiple_choice": "B",
    "preference": "Response 2",
    "sql": "SELECT a FROM t",
}

PIECES = [
    *(
        "4",
        "-3.5",
        "1,000",
        "1e999",
        "28%",
        "0.5",
        "x",
        "B",
        "yes",
        "no",
        "dog",
        "a",
        "the ",
        "not ",
    ),
    *(
        "\\boxed{",
        "}",
        "{",
        "\\frac",
        "{1}{2}",
        "\\text{",
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\",
        "^",
        "_",
        "!",
    ),
    *("<answer>", "</answer>", "<thought>", "</thought>", "< answer >", "<ANSWER>", "<", ">", "/"),
    *(
        "[",
        "]",
        "(",
        ")",
        '"a"',
        ":",
        ",",
        "null",
        "NaN",
        "[0, 0, 1, 1]",
        '{"time": [1, 2]}',
        "```\n",
    ),
    *(
        "**",
        ".",
        "...",
        " ",
        "\n",
        "\t",
        "\0",
        "\ud800",
        "\u202e",
        "\u0130",
        "\u00a0",
        "\U0001f600",
    ),
    *("SELECT", "print(4)", "\\sqrt", "\\sum_{n=1}^{9}", "\\pi", "=", "+", "or ", "and "),
]
pieces = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
texts = st.one_of(pieces, st.text(max_size=40))
SHAPES = ["{}", "<answer>{}</answer>", "<thought>t</thought>\n<answer>{}</answer>", "\\boxed{{{}}}"]
responses = st.builds(str.format, st.sampled_from(SHAPES), texts)

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 10**20),
        st.floats(),
        st.sampled_from(
            ["larger", "reference", "iou", "anls", "squad_em", "relaxed", "(a", "a+", "7"]
        ),
        pieces,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["rel", "abs", "A", "b", "type"]), inner),
    ),
    max_leaves=6,
)
KEYS = [
    *("options", "tolerance", "relative_to", "unit", "mode", "rule", "references", "metric"),
    *("threshold", "case_sensitive", "pattern", "schema", "draft"),
]
extras = st.dictionaries(st.sampled_from(KEYS), values, max_size=3)


def problem_for(name):
    answer = GOLD.get(name, "4")
    return Problem(id="1", prompt="", answer=answer, extra=PROBLEM.get(name, {}))


def judge(name, problem, response):
    """Judge a response in all ways that there are; they agree, and the reward is one that the verifier declares."""
    verifier = (VERIFIERS | OUTSIDE)[name]
    verdict = verifier.verify(problem, response)
    assert isinstance(verdict, Verdict)
    assert math.isfinite(verdict.reward)
    assert LOWEST.get(name, 0.0) <= verdict.reward <= 1.0
    assert verdict.valid or (verdict.reward, verdict.correct) == (0.0, False)
    assert all(math.isfinite(part) for part in verdict.parts.values())
    assert verdict.reason.isascii()
    assert len(verdict.reason) < 600
    json.dumps(verdict.parts)  # workers send it so
    assert verify_quickly(verifier, problem, response) in (None, verdict)
    assert isinstance(hash(what_counts(verifier, problem, response)), int)
    return verdict


def judge_bad_problem(name, answer, extra, response):
    """A fault in the problem is a ValueError that names it; nothing else is raised."""
    problem = Problem(id="p 17", prompt="", answer=answer, extra=extra)
    try:
        judge(name, problem, response)
    except ValueError as error:
        assert "p 17" in str(error)  # noqa: PT017 - most problems raise nothing


@pytest.mark.parametrize("name", VERIFIERS)
@FEW
@given(response=responses)
def test_any_text_gets_a_verdict(name, response):
    judge(name, problem_for(name), response)


@pytest.mark.parametrize("name", VERIFIERS)
@FEW
@given(answer=texts, extra=extras, response=responses)
def test_any_problem_gets_a_verdict_or_is_told_to_be_at_fault(name, answer, extra, response):
    judge_bad_problem(name, answer, extra, response)


@pytest.mark.parametrize("name", ["code", "sql"])
@FEWEST
@given(response=responses)
def test_any_text_for_a_program_gets_a_verdict(name, response):
    judge(name, problem_for(name), response)


@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFIERS)
@MANY
@given(response=responses)
def test_very_many_texts_get_a_verdict(name, response):
    judge(name, problem_for(name), response)


@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFIERS)
@MANY
@given(answer=texts, extra=extras, response=responses)
def test_very_many_problems_get_a_verdict_or_are_told_to_be_at_fault(name, answer, extra, response):
    judge_bad_problem(name, answer, extra, response)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["code", "sql"])
@SOME
@given(response=responses)
def test_many_texts_for_a_program_get_a_verdict(name, response):
    judge(name, problem_for(name), response)


ASCII = st.text(alphabet="<>/aAnswer`\n {}\\boxed", max_size=60)
tagged = st.one_of(pieces, ASCII, responses)


def check_extraction(text):
    """What is found stands in the text, as simple rules that need not be fast find it."""
    lower = text.lower() if text.isascii() else re.sub("[A-Z]", lambda m: m[0].lower(), text)
    first = re.search(r"(?s)<answer>(.*?)</answer>", lower)
    assert between_tags(text, "answer", "first") == (first and text[slice(*first.span(1))])
    starts = [m.start() for m in re.finditer("<answer>", lower) if "</answer>" in lower[m.end() :]]
    last = re.compile(r"(?s)<answer>(.*?)</answer>").match(lower, starts[-1]) if starts else None
    assert between_tags(text, "answer", "last") == (last and text[slice(*last.span(1))])
    assert last_boxed(text) is None or f"{last_boxed(text)}}}" in text
    assert fenced_block(text) is None or fenced_block(text) in text
    for sources in (["answer"], ["boxed"], ["response"], ["answer", "boxed", "response"]):
        found = extract_answer(text, "last", sources)
        assert found is None or (found in text and found == found.strip())
    read_expression(text[:4000])


@FEW
@given(text=tagged)
def test_what_is_extracted_stands_in_the_text(text):
    check_extraction(text)


@pytest.mark.slow
@MANY
@given(text=tagged)
def test_what_is_extracted_stands_in_very_many_texts(text):
    check_extraction(text)


def seconds(work):
    """Processor time, the least of three tries: what else runs on the machine only adds to it."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def check_linear(judge_text, piece, filled, size=1_000_000):
    """Eight times the text takes eight times the time, or three times that where caches no longer help; not 64 times."""
    small = seconds(lambda: judge_text(filled(piece, size // 8)))
    large = seconds(lambda: judge_text(filled(piece, size)))
    assert large < 24 * max(small, 0.002), (
        f"{small:.4f} s for {size // 8}, {large:.4f} s for {size}"
    )


def bare(piece, size):
    return (piece * (size // len(piece) + 1))[:size]


def in_tags(piece, size):
    return f"<thought></thought><answer>{bare(piece, size)}</answer>"


repeated = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
filling = st.sampled_from([bare, in_tags])


def extract_everything(text):
    for which in ("first", "last"):
        between_tags(text, "answer", which)
        fenced_block(text, which)
    last_boxed(text)
    extract_answer(text, "last", ["answer", "boxed", "response"])


WORST = ["<answer>", "</answer><answer>", "\\boxed{", "\\boxed{1} ", "```\n", "< ", "{"]


@pytest.mark.parametrize("piece", WORST)
def test_extraction_takes_linear_time(piece):
    check_linear(extract_everything, piece, bare, size=100_000)


def test_quadratic_time_is_noticed():
    def quadratic(text):
        return [text.count("b") for _ in range(len(text) // 16)]

    with pytest.raises(AssertionError, match="for 100000"):
        check_linear(quadratic, "a", bare, size=100_000)


@pytest.mark.parametrize("name", VERIFIERS)
def test_a_verdict_takes_linear_time(name):
    problem = problem_for(name)
    for piece, filled in (("<answer>", bare), ("\\boxed{", bare), (" a", in_tags)):
        check_linear(
            lambda text: VERIFIERS[name].verify(problem, text), piece, filled, size=100_000
        )


@pytest.mark.slow
@settings(SOME)
@given(piece=repeated, filled=filling)
def test_extraction_takes_linear_time_on_many_texts(piece, filled):
    check_linear(extract_everything, piece, filled)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VERIFIERS, "sql", "code"])
@settings(SOME, max_examples=20)
@given(piece=repeated, filled=filling)
def test_a_verdict_takes_linear_time_on_many_texts(name, piece, filled):
    problem, verifier = problem_for(name), (VERIFIERS | OUTSIDE)[name]
    check_linear(lambda text: verifier.verify(problem, text), piece, filled)


def test_every_verifier_is_fuzzed():
    shipped = set()
    for path in (ROOT / "verifiers").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^    def verify\(self, problem", text, re.MULTILINE):
            shipped.add(f"rlsd_lightning.verifiers.{path.stem}")
    fuzzed = {type(verifier).__module__ for verifier in (VERIFIERS | OUTSIDE).values()}
    assert shipped == fuzzed
