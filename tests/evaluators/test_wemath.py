"""We-Math against rows that the official code has judged, and against numbers worked out by hand."""

import itertools
import json
import math
import random
import time
from pathlib import Path

import pytest
import torch

from rlsd_lightning.evaluators.wemath import WeMath, dimension, options_of
from rlsd_lightning.evaluators.wemath_concepts import CATEGORIES
from rlsd_lightning.types import Problem

PARITY = Path(__file__).parents[1] / "data" / "parity" / "wemath.jsonl"
ROWS = [json.loads(line) for line in PARITY.read_text(encoding="utf-8").splitlines()]
PUBLISHED = ("ID", "key", "option", "knowledge concept", "question number")


def problem_of(row):
    extra = {field: row[field] for field in PUBLISHED}
    return Problem(id=f"{row['ID']}/{row['key']}", prompt="?", answer=row["answer"], extra=extra)


def asked(key="2steps_1", number=1, concept="Parallel", option="A. 4; B. 3", answer="A"):
    id_ = f"{key[0]}steps_{number}"
    extra = {"ID": id_, "key": key, "knowledge concept": concept, "option": option}
    return Problem(id=f"{id_}/{key}", prompt="?", answer=answer, extra=extra)


def numbers_of(problems, **settings):
    """The numbers of problems, told by what is right: {"2steps_1": "110"} for both steps right, the whole wrong."""
    metric = WeMath(**settings)
    metric.update(*answered(problems))
    return metric.compute()


def answered(problems):
    questions, responses = [], []
    for number, pattern in enumerate(problems):
        steps = len(pattern) - 1
        for part, right in zip([*map(str, range(1, steps + 1)), "multi"], pattern, strict=True):
            if right != "-":
                questions.append(asked(f"{steps}steps_{part}", number))
                responses.append("Answer: A" if right == "1" else "Answer: B")
    return questions, responses


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_every_row_is_judged_as_the_official_code_judged_it(row, tmp_path):
    path = tmp_path / "audit.jsonl"
    metric = WeMath(extract=["none", "answer_tag_or_box"], audit_path=str(path))
    metric.update([problem_of(row)], [row["response"]])
    raw, taken = (json.loads(line) for line in path.read_text().splitlines())
    for found, expected in ((raw, "official"), (taken, "official_after_extract")):
        assert found["prediction"] == row["expected"][expected]["processed_answer"]
        assert found["correct"] == row["expected"][expected]["joker"]
    assert taken["extracted"] == row["expected"]["official_after_extract"]["extracted"]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("Answer: (A)", None),
        ("**Answer**: A", None),
        ("Answer: a", None),
        ("Answer: 'A'", None),
        ("<Answer>A</Answer>", None),  # the closing tag is the last split
        ("<Answer>: <<A>>", "A"),
        ("Answer: A or Answer: B", "B"),
        ("Answers: A", None),
        ("Final answer: A", "F"),
        ("Answer: Because", "B"),
        ("Answer: I", None),
        ("H", "H"),
        (" . : A", "A"),
        ("Answer", None),
    ],
)
def test_a_letter_is_read_as_documented(response, letter):
    assert WeMath().score(asked(), response).prediction == letter


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_published_options_are_told_apart(row):
    found = options_of(row["option"])
    assert list(found) == list("ABCDE")[: len(found)]
    assert len(found) >= 3
    assert [*found.values()][-1] == "No correct answer"
    assert row["answer"] in found
    assert all(text and not text.endswith(";") for text in found.values())


def test_options_keep_the_semicolons_inside_of_them():
    assert options_of("A. 1; 3;B. 2; 3;C. \nE;   D. 4 ;") == {
        "A": "1; 3",
        "B": "2; 3",
        "C": "E",
        "D": "4",
    }
    assert options_of("no options") == {}


class Says:
    """A judge that extracts the same from every response."""

    def __init__(self, text):
        self.text = text

    def extract(self, problem, response):
        return self.text


def test_vlmevalkit_reads_options_by_letter_or_text_else_asks_its_judge():
    score = WeMath(scorer="vlmevalkit").score(asked(), "So it is (A).")
    assert (score.correct, score.prediction, score.note) == (True, "A", "")
    assert WeMath(scorer="vlmevalkit").score(asked(), "= 4").prediction == "A"
    score = WeMath(scorer="vlmevalkit").score(asked(), "four")
    assert (score.correct, score.prediction, score.note) == (False, None, "unread")
    score = WeMath(scorer="vlmevalkit", judge=Says("A")).score(asked(), "four")
    assert (score.correct, score.prediction, score.note) == (True, "A", "judge")


def test_officially_no_judge_is_asked():
    score = WeMath(judge=Says("A")).score(asked(), "four")
    assert (score.correct, score.note) == (False, "unread")


def slow_dimension(steps, whole, loose):
    """The scripts' filters, one by one."""
    wrong = [step is False for step in steps]
    right = [step is True for step in steps]
    filters = {
        "RM": (all(wrong) if loose else any(wrong)) and whole is True,
        "IG": all(right) and whole is False,
        "IK": any(wrong) and whole is False,
        "CM": (any(right) if loose else all(right)) and whole is True,
    }
    found = [name for name, passes in filters.items() if passes]
    assert len(found) <= 1
    return found[0] if found else ""


def test_the_four_dimensions_are_those_of_the_filters_also_where_answers_are_missing():
    for num_steps in (2, 3):
        for *steps, whole in itertools.product((True, False, None), repeat=num_steps + 1):
            for loose in (True, False):
                assert dimension(steps, whole, loose) == slow_dimension(steps, whole, loose)


def test_numbers_by_hand():
    # Two steps: CM, IG, IK, RM strict = CM loose, RM in both; three steps: CM, IK, RM strict = CM loose.
    found = numbers_of(["111", "110", "100", "101", "001", "1111", "0000", "0111"])
    assert {name: value for name, value in found.items() if name.startswith("num")} == {
        **{"num_ik": 2, "num_ig": 1},
        **{"num_cm_strict": 2, "num_rm_strict": 3, "num_cm_loose": 4, "num_rm_loose": 1},
        **{"num_ik_complete": 2, "num_ig_complete": 1},
        **{"num_cm_strict_complete": 2, "num_rm_strict_complete": 3},
        **{"num_cm_loose_complete": 4, "num_rm_loose_complete": 1},
        **{"num_complete": 8, "num_incomplete": 0, "num_unread": 0, "num_responses": 27},
    }
    expected = {
        "score_strict": (525 - 0.5 - 3 - 2) / 525,
        "score_loose": (525 - 0.5 - 1 - 2) / 525,
        "score_strict_complete": 2.5 / 8,
        "score_loose_complete": 4.5 / 8,
        "ik_rate": 2 / 525,
        "ig_rate": 1 / 525,
        "cm_strict_rate": 2 / 525,
        "cm_loose_rate": 4 / 525,
        "rm_strict_rate": 3 / 5,
        "rm_loose_rate": 1 / 5,
        "ik_rate_complete": 2 / 8,
        "cm_loose_rate_complete": 4 / 8,
        "rm_strict_rate_complete": 3 / 5,
        "accuracy/S1": (2 + 2 + 1 + 1 + 0 + 3 + 0 + 2) / 19,
        "accuracy/S2": 3 / 5,
        "accuracy/S3": 2 / 3,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    for name in ("score_strict", "score_loose", "score_strict_complete", "score_loose_complete"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    assert all(type(value) is float for value in found.values())


def test_on_complete_data_both_denominators_agree():
    draw = random.Random(0)
    patterns = [
        "".join(draw.choice("01") for _ in range(3 if number < 360 else 4)) for number in range(525)
    ]
    found = numbers_of(patterns)
    assert found["num_complete"] == 525
    assert found["num_responses"] == 1740
    for ending in ("", "_low", "_high"):
        assert found[f"score_strict{ending}"] == found[f"score_strict_complete{ending}"]
    # (CM + 0.5 IG) / 525, and an interval as wide as the normal approximation's.
    points = found["num_cm_strict"] + 0.5 * found["num_ig"]
    assert found["score_strict"] == pytest.approx(points / 525, abs=1e-9)
    squares = found["num_cm_strict"] + 0.25 * found["num_ig"]
    half = 1.96 * math.sqrt((squares / 525 - (points / 525) ** 2) / 525)
    assert found["score_strict_high"] == pytest.approx(points / 525 + half, abs=0.005)


def test_a_problem_with_a_missing_answer_counts_as_mastered_but_not_among_the_complete_ones():
    found = numbers_of(["11-", "1-1", "-11", "00-", "110"])
    assert (found["num_complete"], found["num_incomplete"]) == (1, 4)
    assert found["score_strict"] == pytest.approx((525 - 0.5) / 525, abs=1e-9)
    assert found["score_strict_complete"] == 0.5
    assert found["num_cm_loose"] == 1  # "1-1": one right step is enough
    assert found["num_cm_loose_complete"] == 0
    # Without the first step, the scripts join nothing: "-11" does not count.
    assert found["accuracy/S1"] == pytest.approx((2 + 1 + 0 + 2) / 7, abs=1e-9)
    assert found["accuracy/S2"] == 0.5


def test_nothing_to_divide_by_is_nan():
    found = numbers_of(["00-"])
    assert math.isnan(found["rm_strict_rate"])
    assert math.isnan(found["score_strict_complete"])
    assert math.isnan(found["accuracy/S3"])
    assert math.isnan(found["accuracy/category/Direction"])
    found = WeMath().compute()
    assert found["score_strict"] == 1  # what the scripts make of no answers at all
    assert found["num_complete"] == 0


def test_a_category_is_the_plain_mean_over_its_concepts():
    units = CATEGORIES["Understanding and Conversion of Units"]
    metric = WeMath()
    metric.update(
        [
            asked("2steps_1", 1, units[0]),
            asked("2steps_2", 1, units[1]),
            asked("2steps_1", 2, units[0]),
            asked("2steps_2", 2, units[0]),
            asked("2steps_multi", 2, f"{units[0]};{units[2]}"),
            asked("2steps_1", 3, "of no category"),
        ],
        ["A", "B", "A", "B", "B", "A"],
    )
    found = metric.compute()
    # 2 of 3 on one concept, 0 of 1 on another; the whole problem counts under none.
    name = "accuracy/category/Understanding and Conversion of Units"
    assert found[name] == pytest.approx((2 / 3 + 0) / 2, abs=1e-9)
    assert found["accuracy/S1"] == pytest.approx(3 / 5, abs=1e-9)
    assert sum(name.startswith("accuracy/category/") for name in found) == 12


def test_there_are_67_concepts_and_the_rows_name_them_as_the_table_does():
    concepts = [concept for concepts in CATEGORIES.values() for concept in concepts]
    assert len(concepts) == len(set(concepts)) == 67
    assert {row["knowledge concept"] for row in ROWS if "multi" not in row["key"]} <= set(concepts)


def test_neither_order_nor_updates_nor_duplicates_change_a_number():
    problems, responses = answered(["111", "110", "1111", "0000", "101"])
    metric, other = WeMath(), WeMath()
    metric.update(problems, responses)
    places = [*range(len(problems)), 0, 3]
    random.Random(0).shuffle(places)
    for place in places:
        other.update([problems[place]], [responses[place]])
    assert other.compute() == pytest.approx(metric.compute(), abs=1e-12, nan_ok=True)


def test_a_problem_whose_rows_two_ranks_share_is_joined():
    problems, responses = answered(["111", "110", "1111", "0000"])
    whole, here, there = WeMath(), WeMath(), WeMath()
    whole.update(problems, responses)
    here.update(problems[::2], responses[::2])
    there.update(problems[1::2] + problems[:1], responses[1::2] + responses[:1])
    here.dist_sync_fn = lambda state, group: [state, torch.cat(there.encoded)]
    here.distributed_available_fn = lambda: True
    assert here.compute() == pytest.approx(whole.compute(), abs=1e-12, nan_ok=True)


HOSTILE = {
    "empty": "",
    "megabyte": "ab " * 333_333,
    "megabyte of one letter": "a" * 1_000_000,
    "megabyte of the word": "Answer" * 170_000,
    "megabyte of marks": "Answer" + "<>:. " * 200_000,
    "megabyte of boxes": "\\boxed{" * 140_000,
    "nested": "\\boxed{" + "\\frac{1}{" * 500 + "2" + "}" * 501,
    "tower": "10**10**10",
    "unbalanced": "}}}{{{<answer>{{</answer>",
    "nul": "Answer\0: \0A",
    "right to left": "Answer: \u202eA\u202c",
    "lone surrogate": "Answer: \ud800\udfff",
    "megabyte of blanks": " " * 1_000_000 + "x",
}


@pytest.mark.parametrize("scorer", WeMath.scorers)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_responses_are_wrong_at_once(name, scorer):
    problem = asked(option="A. -7.25; B. another one")
    for step in ("none", "answer_tag_or_box"):
        metric = WeMath(scorer=scorer, extract=step)
        began = time.perf_counter()
        metric.update([problem], [HOSTILE[name]])
        assert time.perf_counter() - began < 1
        assert metric.compute()["num_unread"] == 1


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({}, "problem '7' has no ID and no key and no knowledge concept"),
        ({"ID": "a", "knowledge concept": "b", "key": "4steps_1"}, "the key '4steps_1'"),
        ({"ID": "a", "knowledge concept": "b", "key": "2steps_3"}, "the key '2steps_3'"),
        ({"ID": "a", "knowledge concept": "b", "key": "2steps_1"}, "the option None"),
    ],
)
def test_a_problem_without_what_the_rules_need_is_named(extra, words):
    with pytest.raises(ValueError, match=words):
        WeMath(scorer="vlmevalkit").score(Problem(id="7", prompt="?", extra=extra), "A")


def test_several_samples_per_problem_are_refused():
    with pytest.raises(ValueError, match="samples_per_problem is 2"):
        WeMath(samples_per_problem=2)
