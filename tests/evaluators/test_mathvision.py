"""MathVision against rows that MATH-V's script and VLMEvalKit have judged, and against numbers worked out by hand."""

import json
import math
import random
import time
from pathlib import Path

import pytest

from rlsd_lightning.evaluators.mathvision import MathVision, official_score, vlmevalkit_score
from rlsd_lightning.evaluators.mathvision_arithmetic import arithmetic
from rlsd_lightning.evaluators.mathvision_latex import read_latex, rounded_number
from rlsd_lightning.evaluators.mathvision_rules import is_equal, official_answer, worked_out_tuple
from rlsd_lightning.evaluators.mathvision_vlmevalkit import is_equal as is_equal_to_vlmevalkit
from rlsd_lightning.types import Problem

PARITY = Path(__file__).parents[1] / "data" / "parity" / "mathvision.jsonl"
ROWS = [json.loads(line) for line in PARITY.read_text(encoding="utf-8").splitlines()]
HOSTILE = {
    "empty": "",
    "blank": " \n",
    "a megabyte": "x" * 2**20,
    "a megabyte of digits": "7" * 2**20,
    "a megabyte of boxes": "\\boxed{" * 2**17,
    "a megabyte of capital boxes": "OXED{" * 2**17,
    "a megabyte of closed boxes": "\\boxed{7}" * 2**17,
    "a megabyte of tuple": "(" + "1," * 2**19 + "1)",
    "a megabyte of is": "is " * 2**18,
    "a megabyte of flags": "the answer is " * 2**16,
    "a megabyte of fractions": "\\sqrt\\frac" * 2**16,
    "deep braces": "\\boxed{" + "{" * 500 + "60" + "}" * 500 + "}",
    "deep fractions": "\\frac{1}{" * 90 + "60" + "}" * 90,
    "deep roots": "\\sqrt{" * 20 + "60" + "}" * 20,
    "deep exponentials": "e^{1-" * 18 + "60" + "}" * 18,
    "deep bars": "|1" * 60,
    "a tower in Python": "10**10**10",
    "a tower in LaTeX": "9^{9^{9}}",
    "a chain of powers": "2" + "^2" * 40,
    "a large factorial": "99999999!",
    "many large factorials": "17000!" * 60,
    "a large binomial": "\\binom{10^9}{5}",
    "a large root": "\\sqrt[9^{9^9}]{2}",
    "a long sum": "1+" * 450 + "1",
    "many signs": "-" * 140 + "61",
    "very many signs": "-" * 990 + "61",
    "unbalanced": "\\boxed{60}}}{{",
    "a null byte": "\\boxed{60\x00}",
    "right to left": "\u202e06\u202c",
    "a lone surrogate": "\\boxed{\ud800}",
    "code": "__import__('os').system('true')",
}
WRONG_FOR_OFFICIAL = {name: text for name, text in HOSTILE.items() if name != "unbalanced"}
"""The script reads 60 in it: it cuts the box at the brace that nothing has opened."""


def problem_of(row):
    extra = {field: row[field] for field in ("options", "level", "subject")}
    return Problem(id=row["id"], prompt="?", answer=row["answer"], extra=extra)


def audited(tmp_path, row, **settings):
    """What the evaluator writes down about one row's response."""
    metric = MathVision(audit_path=str(tmp_path / "audit.jsonl"), **settings)
    metric.update([problem_of(row)], [row["response"]])
    return json.loads((tmp_path / "audit.jsonl").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_every_row_is_judged_as_the_scorers_judged_it(row, tmp_path):
    expected = row["expected"]
    raw = audited(tmp_path, row)
    assert raw["prediction"] == expected["official"]["model_answer"]
    assert raw["correct"] == expected["official"]["correct"]
    taken = audited(tmp_path, row, extract="answer_tag_or_box")
    assert taken["extracted"] == expected["official_after_extract"]["extracted"].strip()
    assert taken["prediction"] == expected["official_after_extract"]["model_answer"]
    assert taken["correct"] == expected["official_after_extract"]["correct"]
    kit = audited(tmp_path, row, scorer="vlmevalkit")
    assert (kit["prediction"] or "") == expected["vlmevalkit"]["res"]
    assert kit["correct"] == expected["vlmevalkit"]["hit"]


# What latex2sympy2 1.9.1 and Python's eval have made of these, rounded to two decimals; None for an error.
NUMBERS = {
    **{"60": 60, "60.": 60, "5.00": 5, ".5": 0.5, "1,234.5": 1234.5, "34,426": 34426, "007": 7},
    **{
        "60)": 60,
        "60}": 60,
        "60_2": 60,
        "1_000": 1,
        "60\\\\": 60,
        "60'": 60,
        "5'^2": 5,
        "5!^2": 120,
    },
    **{"5triangles": 5, "5 rows": 5, "12 ones": 12, "5 squares": None, "60cm": None, "5\\to3": 5},
    **{"60%": None, "60\\%": 0.6, "12 \\%": None, "60\u00b0": None, "60^\\circ": None, "60~": 60},
    **{"5,": None, "3,4": None, "5;": None, "5|": None, "5+": None, "{5": None, "5\\ ": None},
    **{"[60]": 60, "\\{5\\}": 5, "\\left(5\\right)": 5, "(5\\right)": None, "\\lbrace5\\rbrace": 5},
    **{"2^10": 1024, "2^3^2": 64, "2^{-1}": 0.5, "2^-1": None, "-2^2": -4, "(-2)^2": 4, "2^3_5": 8},
    **{"\\frac12": None, "\\frac{360}7": None, "\\dfrac{1}{3}": 0.33, "\\cfrac{1}{2}": None},
    **{"2\\frac{1}{2}": 1.0, "3 4": 12, "3(4)": 12, "6/2/3": 1.0, "1:2": 0.5, "5\\over2": 2.5},
    **{
        "3.4.5": 1.7,
        "3\u00d74": None,
        "1/0": None,
        "5x": None,
        "x=5": None,
        "\\infty": None,
        "--5": 5,
    },
    **{"25\\pi": 78.54, "\\pi r^2": None, "2^\\pi": 8.82, "e": None, "e^1": None, "e^2": 7.39},
    **{"e^{0}": 1, "1e3": None, "\\ln 2": None, "\\log 100": 2.0, "\\log_{2}{8}": 3.0, "|5|": None},
    **{"\\sin 30": -0.99, "\\sin^2 1": 0.71, "\\tan^{-1} 1": 0.79, "\\arctan(1)": 0.79},
    **{"\\sin 30\\times 2": -0.3, "\\sin(1)2": 1.68, "\\sin{1}2": 0.91, "2\\sin 1\\cos 1": 0.91},
    **{"\\sqrt{4}": 2.0, "\\sqrt[3]{8}": 2.0, "(-8)^{\\frac{1}{3}}": None, "\\sqrt4": None},
    **{"5!": 120, "(5)_{2}": 20.0, "\\binom{5}{2}": 10, "{5\\choose 2}": 10, "5\\choose 2": 5},
    **{"\\lfloor 2.5\\rfloor": 2, "\\lceil 2.5\\rceil": None, "\\max(1,2)": None, "5\\mod 3": None},
    **{"-2.5-7\\over\\pi'\\left(1,234\\right)": -2752.06, "[50\\%-\\frac{4}{0.5}]": -1.5},
    "\\frac{3^{1008}-1}{3^{1009}}": 0.33,
}


@pytest.mark.parametrize("latex", NUMBERS)
def test_a_number_is_read_as_the_scorers_parser_reads_it(latex):
    found = rounded_number(latex)
    assert (found, type(found)) == (NUMBERS[latex], type(NUMBERS[latex]))


def test_the_text_of_the_unevaluated_tree_is_worked_out_with_its_missing_brackets():
    assert str(read_latex(r"-\frac{1}{2\pi}")) == "-1*1/2*pi"
    assert rounded_number(r"-\frac{1}{2\pi}") == round(-math.pi / 2, 2)
    assert rounded_number(r"\frac{1}{2\pi}") == round(1 / (2 * math.pi), 2)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("C\nas the sum is 5", "c"),
        ("(C) C\nas", "c"),
        ("It must be picture C", "itmustbepicturec"),
        ("So x is 60.", "60"),
        ("The final answer is 7. The rest is talk", "7"),
        ("THE ANSWER IS 7", "theansweris7"),
        (r"\boxed{3} or \boxed{4} cm", "4"),
        (r"\fbox{4}", "\\fbox{4}"),
        (r"\boxed{x = 3 \approx 3.1}", "3.1"),
        (r"\boxed{60\,\text{m}^3}", "60"),
        (r"\boxed{\frac12}", "\\frac12"),
        (r"\boxed{\frac12\sqrt2}", "\\frac{1}{2}\\sqrt{2}"),
        (r"\boxed{60\%}", "60"),
        (r"\boxed{12 units}", "12"),
        ("-14/6", "\\frac{-14}{6}"),
        (".5", "\\frac{1}{2}"),
        (r"\boxed{\left(3, -4\right)}", "(3,-4)"),
        (r"\boxed{\mbox{E}}", "e"),
        ("nan", "nan"),
    ],
)
def test_an_answer_is_taken_out_of_a_response(response, answer):
    assert official_answer(response) == answer


def test_equal_is_what_rounds_to_the_same_two_decimals():
    assert is_equal("60", "60.004")
    assert not is_equal("60", "60.006")
    assert is_equal("0", "\\frac{343}{692224}")
    assert is_equal("$5 \\sqrt{3}$", "8.66")
    assert not is_equal("69{degrees}", "69")
    assert is_equal("69{degrees}", "69{DEGREES}")


def test_tuples_are_equal_part_by_part_and_as_text():
    assert is_equal("(3,-4)", "(2+1,-2^2)")
    assert not is_equal("(3,-4)", "(3,-\\frac{8}{2})")  # -4.0 is another text than -4
    assert not is_equal("(3,-4)", "[3,-4]")
    assert worked_out_tuple("(1,2)+(3,4)") == "(1,2,4)"  # of the part "2)+(3" the number 2 is read


def test_an_options_text_is_as_good_as_its_letter():
    problem = Problem(id="1", prompt="?", answer="B", extra={"options": ["0.25", "$\\frac{1}{2}$"]})
    assert official_score(problem, "\\boxed{0.5}").correct
    assert not official_score(problem, "\\boxed{0.25}").correct


def test_an_answer_that_is_no_option_is_the_problems_fault():
    problem = Problem(id="q9", prompt="?", answer="F", extra={"options": ["1", "2"]})
    for score in (official_score, vlmevalkit_score):
        with pytest.raises(ValueError, match=r"q9.*2 options.*'F'"):
            score(problem, "A")


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("2025", "45^2", True),
        ("47", "45^2", True),  # ^ is Python's exclusive or
        ("0x3c", "60", True),
        ("60.0000009", "60", True),
        ("60.00001", "60", False),
        (r"5\pi", r"5\PI", True),
        (r"\frac{10\pi}{2}", r"5\pi", False),
        (r"x \approx 60", "60", True),
        (r"1\frac{1}{2}", "1.5", True),  # a mixed number is a sum here
        ("A", "60", True),  # the name of the gold answer's number
        ("B", "60", False),
        ("(3, -4)", "(3,-4)", False),
        ("<answer>60</answer>", "60", False),
    ],
)
def test_vlmevalkit_compares_free_answers_as_python_and_as_latex(answer, gold, equal):
    assert is_equal_to_vlmevalkit(answer, gold) is equal


def test_arithmetic_knows_only_arithmetic():
    assert arithmetic("2**3 + ~1 - 7 // 2 % 3") == 2**3 + ~1 - 7 // 2 % 3
    assert arithmetic("abs(-3)", {"abs": abs}) == 3
    texts = ["abs(-3)", "[1][0]", "'a'", "1 if 1 else 2", "(lambda: 1)()", "x.y", "9**9**9"]
    assert [arithmetic(text) for text in texts] == [None] * len(texts)


class Repeats:
    """A judge that takes the last word for the answer."""

    def extract(self, problem, response):
        return response.split()[-1]


def test_a_judge_is_asked_only_where_vlmevalkits_rules_read_nothing(tmp_path):
    row = {"id": "1", "options": [], "answer": "60", "level": 1, "subject": "algebra"}
    for response, correct, note in (("60", True, ""), ("it is 60", True, "judge")):
        found = audited(
            tmp_path, row | {"response": response}, scorer="vlmevalkit", judge=Repeats()
        )
        assert (found["correct"], found["note"]) == (correct, note)
    official = audited(tmp_path, row | {"response": "it is 60 cm or 60"}, judge=Repeats())
    assert (official["correct"], official["note"]) == (False, "")


def asked(number, subject, level):
    extra = {"options": [], "subject": subject, "level": level}
    return Problem(id=str(number), prompt="?", answer="7", extra=extra)


SEVEN = [  # problems and whether each is answered rightly
    (asked(1, "algebra", 1), True),
    (asked(2, "algebra", 1), False),
    (asked(3, "algebra", 2), True),
    (asked(4, "solid geometry", 2), False),
    (asked(5, "solid geometry", 2), False),
    (asked(6, "solid geometry", 5), True),
    (asked(7, "solid geometry", 5), True),
]


def numbers_of(pairs, batch=3, **settings):
    metric = MathVision(**settings)
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        metric.update(
            [problem for problem, _ in some], ["7" if right else "8" for _, right in some]
        )
    return metric.compute()


def test_accuracy_by_hand():
    found = numbers_of(SEVEN)
    low, high = found.pop("accuracy_low"), found.pop("accuracy_high")
    assert low < 4 / 7 < high
    assert found == {
        "accuracy": pytest.approx(4 / 7, abs=1e-9),
        "accuracy/algebra": pytest.approx(2 / 3, abs=1e-9),
        "accuracy/algebra/level1": 0.5,
        "accuracy/algebra/level2": 1.0,
        "accuracy/level1": 0.5,
        "accuracy/level2": pytest.approx(1 / 3, abs=1e-9),
        "accuracy/level5": 1.0,
        "accuracy/solid geometry": 0.5,
        "accuracy/solid geometry/level2": 0.0,
        "accuracy/solid geometry/level5": 1.0,
        "num_responses": 7.0,
    }


def test_order_batches_and_duplicates_change_nothing():
    shuffled = random.Random(0).sample(SEVEN, len(SEVEN))
    assert numbers_of(shuffled, batch=1) == numbers_of(SEVEN, batch=7) == numbers_of(SEVEN)
    assert numbers_of([*SEVEN, SEVEN[1], SEVEN[5]]) == numbers_of(SEVEN)


def test_the_mean_of_a_questions_samples_counts():
    pairs = [(SEVEN[0][0], True), (SEVEN[0][0], False), (SEVEN[5][0], True), (SEVEN[5][0], True)]
    found = numbers_of(pairs, samples_per_problem=2)
    assert found["accuracy"] == 0.75
    assert found["accuracy/level1"] == 0.5


def test_problems_without_subject_and_level_give_the_accuracy_alone():
    metric = MathVision()
    metric.update([Problem(id="1", prompt="?", answer="7")], ["7"])
    assert metric.compute()["accuracy"] == 1
    assert not any("/" in name for name in metric.compute())


def test_nothing_scored_is_not_zero():
    assert math.isnan(MathVision().compute()["accuracy"])


def cpu_seconds(score, problem, text):
    started = time.process_time()
    found = score(problem, text)
    return time.process_time() - started, found.correct


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("options", [[], ["60", "61"]], ids=["free", "choice"])
def test_hostile_responses_are_wrong_and_take_no_time(name, options):
    problem = Problem(
        id="1", prompt="?", answer="A" if options else "60", extra={"options": options}
    )
    seconds, correct = cpu_seconds(official_score, problem, HOSTILE[name])
    assert seconds < 1
    assert correct is (name not in WRONG_FOR_OFFICIAL)
    seconds, correct = cpu_seconds(vlmevalkit_score, problem, HOSTILE[name])
    assert seconds < 1
    assert not correct or name in ("unbalanced", "deep braces")  # 60 stands in both boxes
