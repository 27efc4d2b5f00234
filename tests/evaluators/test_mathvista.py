"""MathVista against rows that the official code and VLMEvalKit's have judged, and against numbers worked out by hand."""

import json
import math
import random
import time
from pathlib import Path

import pytest
import torch

from rlsd_lightning.answers.edits import edit_distances
from rlsd_lightning.evaluators.mathvista import MathVista, score_extraction
from rlsd_lightning.evaluators.mathvista_extractor import read_answer
from rlsd_lightning.types import Problem

PARITY = Path(__file__).parents[1] / "data" / "parity" / "mathvista.jsonl"
ROWS = [json.loads(line) for line in PARITY.read_text(encoding="utf-8").splitlines()]
RESPONSES = [row for row in ROWS if row["kind"] == "response"]
EXTRACTIONS = [row for row in ROWS if row["kind"] == "extraction"]
PUBLISHED = ("choices", "unit", "precision", "question_type", "answer_type")


def problem_of(row):
    extra = {field: row[field] for field in PUBLISHED}
    return Problem(id=row["pid"], prompt="?", answer=row["answer"], extra=extra)


def choice(answer="9", choices=("7", "9"), id_="1", **extra):
    extra |= {"question_type": "multi_choice", "answer_type": "text", "choices": list(choices)}
    return Problem(id=id_, prompt="?", answer=answer, extra=extra)


def number(answer="14", answer_type="integer", id_="2", precision=None, **extra):
    extra |= {"question_type": "free_form", "answer_type": answer_type, "precision": precision}
    return Problem(id=id_, prompt="?", answer=answer, extra=extra)


class Says:
    """A judge that extracts the same from every response."""

    def __init__(self, text):
        self.text = text

    def extract(self, problem, response):
        return self.text


def by_row(row):
    return row["row"]


@pytest.mark.parametrize("row", RESPONSES, ids=by_row)
def test_every_response_is_judged_as_the_official_code_judged_it(row):
    expected = row["expected"]["official"]
    score = MathVista().score(problem_of(row), row["response"])
    assert (score.prediction, score.correct) == (expected["prediction"], expected["true_false"])
    assert (score.note == "unread") == expected["needs_llm"]


@pytest.mark.parametrize("row", RESPONSES, ids=by_row)
def test_every_extracted_answer_is_judged_as_the_official_code_judged_it(row, tmp_path):
    expected = row["expected"]["official_after_extract"]
    path = tmp_path / "audit.jsonl"
    metric = MathVista(extract=["none", "answer_tag_or_box"], audit_path=str(path))
    metric.update([problem_of(row)], [row["response"]])
    raw, taken = (json.loads(line) for line in path.read_text().splitlines())
    assert raw["correct"] == row["expected"]["official"]["true_false"]
    assert {key: taken[key] for key in ("extracted", "prediction", "correct")} == {
        "extracted": expected["extracted"],
        "prediction": expected["prediction"],
        "correct": expected["true_false"],
    }


@pytest.mark.parametrize("row", RESPONSES, ids=by_row)
def test_every_response_is_judged_as_vlmevalkit_judged_it(row):
    expected = row["expected"]["vlmevalkit"]
    score = MathVista(scorer="vlmevalkit").score(problem_of(row), row["response"])
    assert score.correct == expected["hit"]
    assert (score.note == "unread") == (not expected["prefetch"])
    assert score.prediction == (str(expected["res"]) if expected["prefetch"] else None)


@pytest.mark.parametrize("row", EXTRACTIONS, ids=by_row)
def test_every_extraction_is_judged_as_the_official_code_judged_it(row):
    expected = row["expected"]["official"]
    score = score_extraction(problem_of(row), row["extraction"])
    assert (score.prediction, score.correct) == (expected["prediction"], expected["true_false"])


@pytest.mark.parametrize(
    ("problem", "extraction", "prediction"),
    [
        (choice("b", ["a", "b"]), "(B)", "b"),
        (choice("b", ["a", "b"]), "see (b) or (a)", "b"),  # the first in brackets
        (choice("x", ["x", "yy"]), "(C)", "x"),  # no option C: nearest to the letter, first on ties
        (choice("18", ["9", "18", "18"]), "C", "18"),  # equal choices are equally right
        (number("11"), "11.99", "11"),  # cut off
        (number("-3"), "-3.9", "-3"),  # towards zero
        (number("1000"), "1e3", "1000"),
        (number("1"), "inf", None),
        (number("1"), "nan", None),
        (number("1"), "1,000", None),
        (number("1.2", "float", precision=1.0), "1.25", "1.2"),  # halves go to even
        (number("0.0", "float", precision=1.0), "-0.04", "-0.0"),
        (number("1.25", "float", precision=2.0), "1.2500", "1.25"),
        (number("1.1", "float", precision=1.0), "1.15", "1.1"),  # 1.1499999999999999
        (number("[1, 2]", "list"), "[1,2]", "[1,2]"),
        (number("[1, 2]", "list"), "", ""),
    ],
)
def test_extractions_are_normalised_as_documented(problem, extraction, prediction):
    score = score_extraction(problem, extraction)
    assert score.prediction == prediction
    assert score.correct == (prediction == problem.answer)


def test_vlmevalkit_keeps_its_own_oddities():
    def is_right(problem, text, **settings):
        return MathVista(scorer="vlmevalkit", **settings).score(problem, text).correct

    assert not is_right(number("0"), "0")  # the right number 0 is taken for "not read"
    assert is_right(number("0"), "0", judge=Says("0"))
    assert not is_right(number("14"), "14.0")
    assert not is_right(number("1.2", "float", precision=1.0), "1.23")  # no precision
    assert is_right(number("1.2", "float", precision=1.0), "1.20")
    assert not is_right(number("[1, 2]", "list"), "[1, 2]", judge=Says("[1, 2]"))
    twice = choice("18", ["9", "12", "18", "18"])
    assert is_right(twice, "C")
    assert not is_right(twice, "D")  # equal, but not the gold letter


def test_a_judge_extracts_where_the_rules_read_nothing_and_only_there():
    asked = number("14")
    for scorer in ("official", "vlmevalkit", "rules"):
        metric = MathVista(scorer=scorer, judge=Says("14"))
        score = metric.score(asked, "fourteen of them")
        assert (score.correct, score.note) == (True, "judge")
        score = metric.score(asked, "14")
        assert (score.correct, score.note) == (True, "")
    assert (
        MathVista(judge=Says("14")).score(asked, "").note == ""
    )  # official: nothing to extract from
    extracted = MathVista(judge=Says("14"), extract="answer_tag_or_box")
    assert extracted.score(asked, "15").note == ""  # the step stands where the judge would


def test_an_empty_extraction_picks_the_shortest_choice_officially_but_is_wrong_by_our_rules():
    problem = choice("no", ["yes", "no"])
    assert MathVista().score(problem, "").correct
    score = MathVista(scorer="rules").score(problem, "")
    assert (score.correct, score.prediction, score.note) == (False, None, "unread")


@pytest.mark.parametrize(
    ("problem", "response", "extraction"),
    [
        (choice(), "<answer>(B)</answer> or A", "B"),
        (choice(), r"<answer>\boxed{B}</answer>", "B"),
        (choice(), r"So \boxed{\text{B}}.", "B"),
        (choice(), "We count.\n\n**B**\n", "B"),
        (choice(), "The correct answer is option b.", "B"),
        (choice(), "Answer: B) 9", "B"),
        (choice(), "The answer is 9.", "9"),
        (choice(), "The answer is C.", "C."),  # no such option
        (choice(), "It must be nine", "It must be nine"),
        (choice("A B", ["A B", "C"]), "A B", "A B"),
        (number(), "The answer is 14 g.", "14"),
        (number(), "Answer:\n14", "14"),
        (number(), "The answer is 3. Wait.\nThe answer is 14.", "14"),
        (number(), "it weighs $1{,}400\\,\\text{g}$", "1400"),
        (number(), "3 + 11 = 14", "14"),
        (number(), "-14%", "-14"),
        (number(), "\N{MINUS SIGN}14\\%", "-14"),
        (number(), "14 cm^2", "14"),
        (number(), "10^5", ""),
        (number(), "10**10**10", ""),
        (number(), "between 13 and 15", ""),
        (number(), "2014-2016", ""),
        (number(), "1/0", ""),
        (number(), "1,2345", ""),
        (number(), "H2O", ""),
        (number(answer_type="float", precision=1.0), r"\dfrac{6}{5}", "1.2"),
        (number(answer_type="float", precision=1.0), ".5 m", ".5"),
        (number(answer_type="float", precision=1.0), "1.5e3", "1.5e3"),
        (number(answer_type="list"), "from [1] to [2014,  2016]", "[2014, 2016]"),
        (number(answer_type="list"), "2014, 2016", ""),
    ],
)
def test_our_rules_extract_as_documented(problem, response, extraction):
    assert read_answer(problem, response) == extraction


def slow_edit_distance(a, b):
    """The table of distances, cell by cell."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


def test_edit_distances_are_those_of_the_slow_table():
    draw = random.Random(0)
    for _ in range(500):
        text, *others = (
            "".join(draw.choice("abc\U0001f600") for _ in range(draw.randrange(12)))
            for _ in range(4)
        )
        assert edit_distances(text, others) == [slow_edit_distance(text, other) for other in others]


def test_edit_distances_of_long_texts_are_exact():
    # 70 "a" are kept of a million; an absent "b" takes the place of one that would be left out.
    assert edit_distances("a" * 1_000_000, ["a" * 70, "a" * 69 + "b"]) == [999_930, 999_931]


METADATA = [
    {"task": "VQA", "grade": "college", "skills": ["algebra", "geometry"]},
    {"task": "VQA", "grade": "daily life", "skills": ["algebra"]},
    {"task": "geometry problem solving", "grade": "college", "skills": ["geometry", "geometry"]},
    {"task": "geometry problem solving", "grade": "college", "skills": []},
]


def some_questions():
    """Four questions, of which the first, the second and the last are answered rightly."""
    problems = [
        number("14", id_="1", **METADATA[0]),
        choice("9", id_="2", **METADATA[1]),
        number("14", id_="3", **METADATA[2]),
        number("1.2", "float", id_="4", precision=1.0, **METADATA[3]),
    ]
    return problems, ["14", "9", "15", "1.2"]


def test_accuracy_is_told_for_every_value_of_every_field():
    metric = MathVista()
    metric.update(*some_questions())
    found = metric.compute()
    interval = [found.pop("accuracy_low"), found.pop("accuracy_high")]
    assert interval[0] <= 0.75 <= interval[1]
    assert (
        found
        == {
            "accuracy": pytest.approx(3 / 4, abs=1e-9),
            "accuracy/question_type/free_form": pytest.approx(2 / 3, abs=1e-9),
            "accuracy/question_type/multi_choice": 1,
            "accuracy/answer_type/float": 1,
            "accuracy/answer_type/integer": 0.5,
            "accuracy/answer_type/text": 1,
            "accuracy/grade/college": pytest.approx(2 / 3, abs=1e-9),
            "accuracy/grade/daily life": 1,
            "accuracy/skill/algebra": 1,
            "accuracy/skill/geometry": 0.5,  # a question counts once under a skill, however often it is named
            "accuracy/task/VQA": 1,
            "accuracy/task/geometry problem solving": 0.5,
            "num_unread": 0,
            "num_responses": 4,
        }
    )
    assert all(type(value) is float for value in found.values())


def test_neither_order_nor_updates_nor_duplicates_change_a_number():
    problems, responses = some_questions()
    metric = MathVista()
    metric.update(problems, responses)
    other = MathVista()
    for index in (2, 0, 3, 1, 0):
        other.update([problems[index]], [responses[index]])
    assert other.compute() == metric.compute()


def test_two_ranks_find_what_one_finds():
    problems, responses = some_questions()
    whole, here, there = MathVista(), MathVista(), MathVista()
    whole.update(problems, responses)
    here.update(problems[:2], responses[:2])
    there.update(problems[1:], responses[1:])
    here.dist_sync_fn = lambda state, group: [state, torch.cat(there.encoded)]
    here.distributed_available_fn = lambda: True
    assert here.compute() == whole.compute()


def test_of_several_samples_of_a_question_the_mean_counts():
    metric = MathVista(samples_per_problem=2)
    problem = number("14", task="VQA")
    metric.update([problem, problem], ["14", "fourteen"])
    found = metric.compute()
    assert found["accuracy"] == found["accuracy/task/VQA"] == 0.5
    assert (found["accuracy_low"], found["accuracy_high"]) == (0.5, 0.5)  # one question
    assert found["num_unread"] == 1


def test_nothing_scored_is_not_zero():
    found = MathVista().compute()
    assert math.isnan(found["accuracy"])
    assert found["num_unread"] == 0


HOSTILE = {
    "empty": "",
    "megabyte": "ab " * 333_333,
    "megabyte of one letter": "a" * 1_000_000,
    "megabyte of digits": "9" * 1_000_000,
    "megabyte of a tag": "<answer>" + "(" * 1_000_000 + "</answer>",
    "megabyte of boxes": "\\boxed{" * 140_000,
    "megabyte of fractions": "\\frac{" * 160_000,
    "nested": "\\boxed{" + "\\frac{1}{" * 500 + "2" + "}" * 501,
    "tower": "10**10**10",
    "long exponent": "1e" + "9" * 100_000,
    "unbalanced": "}}}{{{<answer>{{</answer>",
    "nul": "\0" * 1000 + "x",
    "right to left": "\u202e41\u202c \u0661\u0662",
    "lone surrogate": "\ud800\udfff x",
    "megabyte of blanks": " " * 1_000_000 + "x",
    "megabyte of lines": "answer is\n" * 100_000,
}
QUESTIONS = [
    choice("far from it all", ["near", "far from it all"]),
    number(),
    number("1.2", "float", precision=1.0),
    number("[1, 2]", "list"),
]


@pytest.mark.parametrize("scorer", MathVista.scorers)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_responses_are_wrong_at_once(name, scorer):
    for step in ("none", "answer_tag_or_box"):
        for index, problem in enumerate(QUESTIONS):
            metric = MathVista(scorer=scorer, extract=step)
            began = time.perf_counter()
            metric.update([problem], [HOSTILE[name]])
            assert time.perf_counter() - began < 1
            # The nearest choice is picked however far it is; a long text is nearest to the longest one.
            if index or scorer != "official" or step == "none":
                assert metric.compute()["accuracy"] == 0


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Problem(id="7", prompt="?"), "problem '7' has no question_type"),
        (Problem(id="7", prompt="?", extra={"question_type": "open"}), "question_type 'open'"),
        (choice(choices=[]), "no choices"),
        (Problem(id="7", prompt="?", extra={"question_type": "free_form"}), "no answer_type"),
        (number(answer_type="float"), "precision None"),
        (number(answer_type="float", precision=math.nan), "precision nan"),
    ],
)
def test_a_problem_without_what_the_rules_need_is_named(problem, words):
    with pytest.raises(ValueError, match=words):
        MathVista(extract="answer_tag_or_box").score(problem, "1.2")


def test_a_gold_answer_that_is_no_choice_has_no_letter():
    with pytest.raises(ValueError, match="must be one of its choices, '7', '9'"):
        MathVista(scorer="vlmevalkit").score(choice("8"), "A")
