"""ZeroBench against rows that the site's code and VLMEvalKit's have judged, and against numbers worked out by hand."""

import json
import math
import re
import time
from itertools import combinations
from pathlib import Path

import pytest

from rlsd_lightning.evaluators.zerobench import (
    ZeroBench,
    all_pass,
    is_official,
    parsed_answer,
    pass_at,
)
from rlsd_lightning.types import Problem

PARITY = Path(__file__).parents[1] / "data" / "parity" / "zerobench.jsonl"
ROWS = [json.loads(line) for line in PARITY.read_text(encoding="utf-8").splitlines()]


def problem_of(row):
    return Problem(
        id=row["question_id"],
        prompt="?",
        answer=row["question_answer"],
        extra={"main_question_id": row["main_question_id"]},
    )


def audited(tmp_path, problem, response, **settings):
    """What the evaluator writes down about one response."""
    metric = ZeroBench(audit_path=str(tmp_path / "audit.jsonl"), **settings)
    metric.update([problem], [response])
    return json.loads((tmp_path / "audit.jsonl").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_every_row_is_judged_as_the_scorers_judged_it(row, tmp_path):
    expected, problem = row["expected"], problem_of(row)
    raw = audited(tmp_path, problem, row["response"])
    assert (raw["prediction"] or "") == expected["official"]["parsed"]
    assert raw["correct"] == expected["official"]["correct"]
    taken = audited(tmp_path, problem, row["response"], extract="answer_tag_or_box")
    assert taken["correct"] == expected["official_after_extract"]["correct"]
    assert taken["extracted"] == expected["official_after_extract"]["given"].strip()
    contained = audited(tmp_path, problem, row["response"], scorer="vlmevalkit")
    assert contained["correct"] == expected["vlmevalkit"]["correct"]


def test_the_numbers_of_the_rows_are_those_of_a_slow_count():
    metric = ZeroBench(extract=["none", "answer_tag_or_box"])
    metric.update([problem_of(row) for row in ROWS], [row["response"] for row in ROWS])
    found = metric.compute()
    for prefix, key in (("", "official"), ("answer_tag_or_box/", "official_after_extract")):
        right = {}
        for row in ROWS:
            right.setdefault(row["question_id"], []).append(row["expected"][key]["correct"])
        main = [r for id_, r in right.items() if "_" not in id_]
        parts = {}
        for id_, r in right.items():
            if "_" in id_:
                parts.setdefault(id_.split("_")[0], []).append(sum(r) / 5)
        rates = [sum(p) / len(p) for p in parts.values()]
        centre = sum(rates) / len(rates)
        wanted = {
            "pass@1": sum(sum(r) / 5 for r in main) / len(main),
            "pass@5": sum(any(r) for r in main) / len(main),
            "pass^5": sum(all(r) for r in main) / len(main),
            "subquestions": centre,
            "subquestions_se": math.sqrt(
                sum((r - centre) ** 2 for r in rates) / (len(rates) - 1) / len(rates)
            ),
            "subquestions_correct": sum(sum(p) for p in parts.values()),
        }
        for name, value in wanted.items():
            assert found[prefix + name] == pytest.approx(value, abs=1e-9), name


def scored(*right, samples_per_problem=5):
    """Numbers of questions given as (id, one truth per sample)."""
    metric = ZeroBench(samples_per_problem=samples_per_problem)
    for id_, truths in right:
        for truth in truths:
            metric.update([Problem(id=id_, prompt="?", answer="1")], ["{1}" if truth else "{2}"])
    return metric.compute()


def test_pass_at_k_of_two_questions_worked_out_by_hand():
    # c = 2 and c = 5 of n = 5.
    # pass@2: 1 - C(3,2)/C(5,2) = 1 - 3/10 = 0.7, and 1.       pass^2: C(2,2)/C(5,2) = 0.1, and 1.
    # pass@4: C(3,4) = 0, so 1, and 1.                         pass^4: 0, and 1.
    found = scored(("1", [1, 0, 0, 1, 0]), ("2", [1] * 5))
    wanted = {"pass@1": 0.7, "pass^1": 0.7, "pass@2": 0.85, "pass^2": 0.55, "pass@4": 1.0}
    wanted |= {"pass^4": 0.5, "pass@5": 1.0, "pass^5": 0.5, "num_questions": 2.0}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("num_correct", range(6))
@pytest.mark.parametrize("k", range(1, 6))
def test_the_formulas_are_the_share_of_all_draws(k, num_correct):
    draws = list(combinations([True] * num_correct + [False] * (5 - num_correct), k))
    assert pass_at(k, 5, num_correct) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)
    assert all_pass(k, 5, num_correct) == pytest.approx(
        sum(map(all, draws)) / len(draws), abs=1e-12
    )


def test_more_samples_than_there_are_give_no_number():
    found = scored(("1", [1, 0]), ("2", [1, 1, 1]), samples_per_problem=3)
    assert found["pass@2"] == 1
    assert math.isnan(found["pass@3"])
    assert math.isnan(found["pass^3_low"])


def test_a_main_question_counts_once_however_many_parts_it_has():
    # Rates 1/2 and 1: mean 3/4, deviations 1/4, SE = sqrt(2/16 / 1 / 2) = 1/4. Of three parts two are right.
    found = scored(("7_1", [1]), ("7_2", [0]), ("8_1", [1]), samples_per_problem=1)
    wanted = {"subquestions": 0.75, "subquestions_se": 0.25, "subquestions_micro": 2 / 3}
    wanted |= {"subquestions_correct": 2.0, "num_subquestions": 3.0, "num_questions": 0.0}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)
    assert found["subquestions_low"] == 0.5
    assert found["subquestions_high"] == 1
    assert math.isnan(found["pass@1"])
    assert math.isnan(scored(("7_1", [1]), samples_per_problem=1)["subquestions_se"])


def test_of_several_samples_of_a_subquestion_the_mean_counts():
    found = scored(("7_1", [1, 0]), ("8_1", [1, 1]), samples_per_problem=2)
    assert found["subquestions"] == 0.75
    assert found["subquestions_correct"] == 1.5


def test_order_batches_and_duplicates_change_nothing():
    samples = [(problem_of(row), row["response"]) for row in ROWS]
    whole = ZeroBench()
    whole.update(*map(list, zip(*samples, strict=True)))
    rows = sorted(samples, key=lambda pair: pair[0].id[::-1])  # samples of a question stay in order
    parts = ZeroBench()
    for start in range(0, len(rows), 7):
        parts.update(*map(list, zip(*rows[start : start + 7], strict=True)))
    parts.update(*map(list, zip(*samples[:20], strict=True)))
    assert repr(parts.compute()) == repr(whole.compute())


def test_five_samples_are_the_default_and_one_is_possible():
    assert ZeroBench().samples_per_problem == 5
    assert "pass@2" not in scored(("1", [1]), samples_per_problem=1)
    assert scored(("1", [1]), samples_per_problem=1)["pass@1_low"] == 1


class SaysBlue:
    def extract(self, problem, response):
        return "Blue"


def test_a_judge_is_asked_only_where_there_are_no_braces(tmp_path):
    problem = Problem(id="1", prompt="?", answer="blue")
    asked = audited(tmp_path, problem, "It is blue.", judge=SaysBlue())
    assert (asked["correct"], asked["note"]) == (True, "judge")
    assert audited(tmp_path, problem, "{red}", judge=SaysBlue())["correct"] is False
    assert audited(tmp_path, problem, "It is blue.")["correct"] is False


def test_a_problem_without_answer_is_refused():
    with pytest.raises(ValueError, match=r"problem '1' has no answer\. Needed"):
        ZeroBench().update([Problem(id="1", prompt="?")], ["{}"])


def test_only_what_was_taken_out_of_tags_or_a_box_is_put_in_braces(tmp_path):
    problem = Problem(id="1", prompt="?", answer="42")
    for step, response, extracted in (
        ("answer_tag_or_box", "<answer>42</answer>", "{42}"),
        ("answer_tag_or_box", " 42 ", "42"),
        ("after_think", "<think>hm</think> 42", "42"),
        ("after_think", "<think>hm</think> {42}", "{42}"),
        ("none", " <answer>42</answer>", " <answer>42</answer>"),
    ):
        row = audited(tmp_path, problem, response, extract=step)
        assert row["extracted"] == extracted
        assert row["correct"] == (extracted == "{42}")


HOSTILE = [
    "",
    "x" * 1_000_000,
    "{" * 1_000_000,
    "}" * 1_000_000,
    "{\n" * 500_000 + "}",
    "{}" * 500_000,
    "\\frac{" * 150_000,
    "{10**10**10}",
    "{{{}{}}",
    "\x00{\x00}",
    "\u202e{24}\u202c",
    "{\ud800}",
    "<answer>" * 100_000,
    "\\boxed{" * 100_000 + "}" * 100_000,
]


@pytest.mark.parametrize("scorer", ZeroBench.scorers)
@pytest.mark.parametrize("response", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_text_is_wrong_within_a_second(response, scorer):
    metric = ZeroBench(scorer=scorer, extract=["none", "answer_tag_or_box"])
    start = time.process_time()
    metric.update([Problem(id="1", prompt="?", answer="42")], [response])
    assert time.process_time() - start < 1
    found = metric.compute()
    assert found["pass@1"] == found["answer_tag_or_box/pass@1"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{a}",
        "{a}{b}",
        "{a{b}c}",
        "{a\n}",
        "{\n{b}\n}{",
        "}{",
        "{A\r}",
        "{a}\n{b\n}",
        "{}",
        "{a}{}",
    ],
)
def test_the_last_pair_is_the_one_that_one_search_over_everything_finds(text):
    pairs = re.findall(r"\{(.*?)\}", text.strip().lower())
    assert parsed_answer(text) == (pairs[-1] if pairs else "")


def test_a_gold_answer_that_grows_in_lower_case_can_never_be_right():
    # U+0130 has two code points in lower case: the site's code compares the lengths before lowering the gold one.
    assert not is_official(parsed_answer("{\u0130}"), "\u0130")
