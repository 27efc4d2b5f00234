import itertools
import json
import math
import random
import re
import time
from pathlib import Path

import pytest

from rlsd_lightning.evaluators.mmmu import (
    DISCIPLINES,
    MMMU,
    SUBJECTS,
    as_multiple_choice,
    gold_answers,
    with_random_letters,
)
from rlsd_lightning.evaluators.mmmu_rules import (
    find_numbers,
    key_answers,
    normalise,
    open_is_right,
    read_letter,
    read_open,
)
from rlsd_lightning.scoring import Sample
from rlsd_lightning.scoring.extract import answer_tag_or_box
from rlsd_lightning.types import Problem

PARITY = Path(__file__).parents[1] / "data" / "parity" / "mmmu.jsonl"
ROWS = [json.loads(line) for line in PARITY.read_text("utf-8").splitlines()]
ABCD = dict(zip("ABCD", ("red", "green", "light green", "blue"), strict=True))


def choice(id_="validation_Art_1", answer="B", options=("one", "two", "three", "four")):
    extra = {"question_type": "multiple-choice", "options": list(options)}
    return Problem(id=id_, prompt="", answer=answer, extra=extra)


def question(id_="validation_Math_15", answer="0.5", **extra):
    return Problem(id=id_, prompt="", answer=answer, extra={"question_type": "open", **extra})


def as_packed(row):
    """The hub's form: a list of answers is one string."""
    extra = {"question_type": row["question_type"], "options": row["options"]}
    return Problem(id=row["id"], prompt="", answer=row["answer"], extra=extra)


def as_loaded(row):
    """The loader's form: a list of answers is unpacked, and there are no options where there are none."""
    official = row["answer_official"]
    several = {"answers": official} if isinstance(official, list) else {}
    options = {"options": row["options"]} if row["options"] else {}
    extra = {"question_type": row["question_type"], **options, **several}
    answer = official[0] if several else official
    return Problem(id=row["id"], prompt="", answer=answer, extra=extra)


def check_official(score, expected):
    assert (score.note == "fallback") == expected["random_fallback"]
    if expected["random_fallback"]:
        assert (score.prediction, score.correct) == (None, False)
    elif isinstance(expected["parsed_pred"], list):
        found = json.loads(score.prediction)
        assert sorted(found, key=str) == sorted(expected["parsed_pred"], key=str)
        assert score.correct == expected["correct"]
    else:
        assert (score.prediction, score.correct) == (expected["parsed_pred"], expected["correct"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
@pytest.mark.parametrize("problem_of", [as_packed, as_loaded])
def test_parity_with_the_official_scorer(row, problem_of):
    metric, problem, expected = MMMU(), problem_of(row), row["expected"]
    check_official(metric.score(problem, row["response"]), expected["official"])
    after = expected["official_after_extract"]
    text = answer_tag_or_box(row["response"])
    assert text == after["extracted"]
    check_official(metric.score(problem, text), after)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
@pytest.mark.parametrize("problem_of", [as_packed, as_loaded])
def test_parity_with_vlmevalkit(row, problem_of):
    score = MMMU(scorer="vlmevalkit").score(problem_of(row), row["response"])
    expected = row["expected"]["vlmevalkit"]
    assert (score.prediction, score.correct) == (expected["opt"], bool(expected["hit"]))


UNREAD = [row for row in ROWS if row["expected"]["official"]["random_fallback"]]


@pytest.mark.parametrize("row", UNREAD, ids=lambda row: row["row"])
def test_parity_of_the_first_random_letter(row):
    metric, expected = MMMU(), row["expected"]["official"]
    metric.update([as_packed(row)], [row["response"]])
    letter = expected["parsed_pred_if_random_seed42_just_before"]
    assert metric.compute()["accuracy_random_fallback"] == (letter == row["answer"])


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B.,", "B"),  # "," goes, then "."
        ("B,.", "B,"),  # "." comes after ",", whose turn is over
        ("B. \n", None),  # white space shields the period
        ("\n\nD", None),
        ("Answer: C. red", None),
        ("**C**", None),
        ("C) red", None),
        ("[C]", None),
        ("{C}", None),
        ('"C"', None),
        ("\\boxed{C}", None),
        ("Option C: red", None),
        ("D, red", None),
        ("'C'", "C"),
        ("a b A c", "A"),
        ("A picture of B here", "B"),  # the last of both
        ("B is A", "A"),
        ("(A) not (B) so the answer is C", "B"),  # brackets shadow bare letters
        ("(a) or (c)", None),
        ("(B) (A) (B) (A)", "A"),
    ],
)
def test_letters_by_the_official_rule(response, letter):
    assert read_letter(response, ABCD) == (letter if letter in ABCD else None)


def test_option_texts_are_read_in_more_than_five_words_only():
    assert read_letter("we see that it is Red", ABCD) == "A"  # 6 words
    assert read_letter("it is surely the Red", ABCD) is None  # 5
    assert read_letter("red at first but then blue after all", ABCD) == "D"


def test_of_option_texts_in_one_place_the_first_wins():
    tie = {"A": "green", "B": "the green", "C": "green"}
    assert read_letter("one two three four five six green", tie) == "A"
    # "light green" starts before "green", which lies within it, so it never comes last
    assert read_letter("one two three four it is light green", ABCD) == "B"


def test_keys_of_open_answers():
    assert key_answers("First.\nIt is so.\nThe result is 5 so 6.") == ["so.", "6"]
    assert key_answers("The answer is Tampa. It is Florida") == ["florida"]  # no split at sentences
    assert key_answers("y = 3\nx = 4") == ["4"]  # "=" counts in the last line only
    assert key_answers("y = 3\nfour") == ["y = 3\nfour"]  # no key: the whole response
    assert key_answers("the answer is .\nfive") == ["the answer is .\nfive"]  # trivial
    assert key_answers("is x\nis x") == ["x"]


def test_an_indicator_with_nothing_behind_it_gives_way():
    # "so " leaves "it is", "is " leaves nothing, "final " leaves "one so it is"
    assert key_answers("the final one so it is \nz") == ["one so it is"]


def test_numbers_of_open_answers():
    assert find_numbers("1,234,567") == ["1,234,567", "567"]
    assert find_numbers("-2.50 3. x4 5y .75") == ["-2.50", "3", "4", ".75"]
    assert find_numbers("1e5 2.5E-3") == ["1e5", "2.5E-3", "5", "2", "-3"]


def test_normal_forms():
    assert normalise(" 1,234.567 ") == [1234.57]
    assert normalise("1_0") == [10.0]  # Python's float reads underscores
    assert normalise("-0.001") == [0.0]
    assert normalise("1e999") == [math.inf]
    assert normalise(f"{2**53 + 2}") == [float(2**53 + 2)]
    assert normalise("X") == [" x", "x "]
    assert normalise("") == [""]


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        ("not a transformation", "Transformation", True),
        ("1.0", "0.9965", True),
        ("0.015625", "1/64", False),
        ("10%", "0.10", False),
        ("-120", "\u2212120", False),
        ("the answer is 5 or 6", "6", True),  # any number of a key counts
        ("cab", "C", False),
        ("vitamin C", "C", True),
        ("C", "C", True),
    ],
)
def test_open_answers_by_the_official_rule(response, gold, right):
    assert open_is_right(read_open(response), [gold]) is right


OFFICIAL_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


def test_numbers_are_those_of_the_official_patterns():
    draw = random.Random(0)
    for _ in range(4_000):
        text = "".join(draw.choices("1234.,-eE+ a_\n\u0663", k=draw.randrange(1, 14)))
        slow = [number for pattern in OFFICIAL_NUMBERS for number in re.findall(pattern, text)]
        assert find_numbers(text) == slow, text
    for chars in itertools.product("1.,e-", repeat=6):
        text = "".join(chars)
        slow = [number for pattern in OFFICIAL_NUMBERS for number in re.findall(pattern, text)]
        assert find_numbers(text) == slow, text


def slow_read_open(response):
    """Line by line and number by number, as the rule is told."""
    response = response.strip().strip(".").lower()
    lines = re.split(r"\.\s(?=[A-Z])|\n", response)
    words = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "]
    keys = []
    for place, line in enumerate(lines):
        best = None
        for word in [*words, "="] if place == len(lines) - 1 else words:
            tail = line.split(word)[-1].strip() if word in line else None
            if tail is not None and (not best or len(tail) < len(best)):
                best = tail
        if best and best not in list(":,.!?;'"):
            keys.append(best)
    keys = keys or [response]
    texts = keys + [n for key in keys for p in OFFICIAL_NUMBERS for n in re.findall(p, key)]
    return {value for text in texts for value in normalise(text)}


def test_open_answers_are_read_as_line_by_line():
    draw = random.Random(1)
    parts = ["is ", "so ", "=", "final ", "answer ", "1", ".5", "2,000", "3e2", "x", ". ", "\n"]
    for _ in range(3_000):
        text = "".join(draw.choices([*parts, "Is ", " ", ":", "-", "could be "], k=9))
        found = read_open(text)
        assert set(found) == slow_read_open(text), text
        assert len(found) == len(set(found))


def test_several_golds_are_unpacked():
    packed, loaded = question(answer="['24/7', '3.429']"), question(answers=["24/7", "3.429"])
    assert gold_answers(packed) == gold_answers(loaded) == ["24/7", "3.429"]
    assert MMMU().score(packed, "3.43").correct
    assert MMMU().score(loaded, "it is 24/7").correct
    assert gold_answers(question(answer="[1, 2]")) == ["[1, 2]"]


def test_vlmevalkit_turns_open_questions_into_two_options():
    metric = MMMU(scorer="vlmevalkit")
    assert as_multiple_choice(["24/7", "3.429"]) == (
        {"A": "['24/7', '3.429']", "B": "Other Answers"},
        "A",
    )
    assert not metric.score(question(answers=["24/7", "3.429"]), "24/7").correct
    assert not metric.score(question(answer="C"), "C").correct  # reads A, wants C
    assert metric.score(question(answer="B"), "B").correct
    assert metric.score(question(answer="1.06"), "A").correct  # option A is the gold answer
    assert metric.score(question(answer="1.06"), "1.061").correct


def test_subjects_are_in_the_official_order():
    assert " ".join(SUBJECTS) == (
        "Accounting Agriculture Architecture_and_Engineering Art Art_Theory Basic_Medical_Science Biology Chemistry "
        "Clinical_Medicine Computer_Science Design Diagnostics_and_Laboratory_Medicine Economics Electronics "
        "Energy_and_Power Finance Geography History Literature Manage Marketing Materials Math Mechanical_Engineering "
        "Music Pharmacy Physics Psychology Public_Health Sociology"
    )
    assert [len(subjects) for subjects in DISCIPLINES.values()] == [4, 5, 5, 5, 4, 7]


BATCH = [
    (choice("validation_Art_2"), "B"),  # right
    (choice("validation_Art_10"), "**B**"),  # unread
    (choice("validation_Art_Theory_1"), "C"),
    (choice("validation_Accounting_1", "A", ["x", "y", "z"]), "no idea"),  # unread
    (question("validation_Math_15", "0.5"), "0.5"),  # right
    (question("validation_Math_16", "0.5"), "0.6"),
    (choice("validation_Math_1"), "(B)"),  # right
    (choice("validation_Physics_1"), ""),  # unread
]


def scored(batch, **kwargs):
    metric = MMMU(**kwargs)
    metric.update([problem for problem, _ in batch], [response for _, response in batch])
    return metric.compute()


def test_aggregates_by_hand():
    found = scored(BATCH)
    expected = {
        "accuracy": 3 / 8,
        "accuracy/Art": 1 / 2,
        "accuracy/Art_Theory": 0,
        "accuracy/Accounting": 0,
        "accuracy/Math": 2 / 3,
        "accuracy/Physics": 0,
        "accuracy/Art and Design": 1 / 3,  # over questions, not over subjects: not 1/4
        "accuracy/Business": 0,
        "accuracy/Science": 2 / 4,
        "accuracy/multiple-choice": 2 / 6,
        "accuracy/open": 1 / 2,
        "fallback_fraction": 3 / 8,
        "num_fallback": 3,
        "num_responses": 8,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    unseen = {name for name, value in found.items() if math.isnan(value)}
    assert len(unseen) == 30 - 5 + 3
    assert "accuracy/Tech and Engineering" in unseen
    assert all(type(value) is float for value in found.values())


def test_aggregates_by_hand_with_vlmevalkit():
    found = scored(BATCH, scorer="vlmevalkit")
    # **B** and 0.5 are read, "" and "no idea" are not; 0.6 neither
    assert found["accuracy"] == pytest.approx(4 / 8, abs=1e-9)
    assert found["undecided_fraction"] == pytest.approx(3 / 8, abs=1e-9)
    assert "fallback_fraction" not in found


def test_random_letters_are_drawn_in_the_official_order():
    draw = random.Random(42)
    # Accounting_1 before Art_10 before Physics_1; no draw for a response that is read
    drawn = [draw.choice("ABC") == "A", draw.choice("ABCD") == "B", draw.choice("ABCD") == "B"]
    expected = (3 + sum(drawn)) / 8
    assert scored(BATCH)["accuracy_random_fallback"] == pytest.approx(expected, abs=1e-9)


def test_random_letters_follow_the_files_numbers_not_their_spelling():
    unread = [(choice(f"validation_Art_{n}", "ABCD"[n % 4]), "?") for n in range(1, 31)]
    draw = random.Random(42)
    expected = sum(draw.choice("ABCD") == "ABCD"[n % 4] for n in range(1, 31)) / 30
    for batch in (unread, unread[::-1]):
        assert scored(batch)["accuracy_random_fallback"] == pytest.approx(expected, abs=1e-9)


def test_each_sample_of_a_question_is_a_run_of_its_own():
    facts = {"subject": "Art", "question_type": "multiple-choice", "options": "ABCD", "gold": "A"}
    unread = [
        Sample(
            id="validation_Art_1",
            number=number,
            extract="none",
            correct=False,
            note="fallback",
            facts=facts,
        )
        for number in range(3)
    ]
    assert len({sample.correct for sample in with_random_letters(unread)}) == 1


def test_order_cuts_and_duplicates_change_nothing():
    whole = scored(BATCH)
    shuffled = random.Random(3).sample(BATCH, k=len(BATCH))
    metric = MMMU()
    for problem, response in [*shuffled, *BATCH]:
        metric.update([problem], [response])
    for found in (scored(shuffled), scored(BATCH + BATCH[:3]), metric.compute()):
        assert found == pytest.approx(whole, abs=0, nan_ok=True)


def test_several_samples_of_a_question_are_averaged():
    batch = [(choice(), "B"), (choice(), "C"), (choice("validation_Art_2"), "B")]
    assert scored(batch, samples_per_problem=2)["accuracy"] == pytest.approx(3 / 4, abs=1e-9)


class Says:
    """A judge that reads the same answer off every response."""

    def __init__(self, answer):
        self.answer = answer

    def extract(self, problem, response):
        return self.answer


@pytest.mark.parametrize("scorer", MMMU.scorers)
def test_a_judge_is_asked_for_unread_responses_only(scorer):
    metric = MMMU(scorer=scorer, judge=Says("B"))
    unread, read = metric.score(choice(), "no idea"), metric.score(choice(), "C")
    assert (unread.correct, unread.note, unread.prediction) == (True, "judge", "B")
    assert (read.correct, read.note) == (False, "")
    helpless = MMMU(scorer=scorer, judge=Says("?")).score(choice(), "no idea")
    assert (helpless.correct, helpless.note in ("fallback", "undecided")) == (False, True)


HOSTILE = {
    "empty": "",
    "one run of digits": "1" * 1_000_000,
    "a run of digits before a letter": "1" * 1_000_000 + "a",
    "a fraction with an exponent": "1." + "1" * 1_000_000 + "e5",
    "commas": "1" + ",111" * 250_000,
    "points": "1." * 500_000,
    "numbers": " ".join(map(str, range(140_000))),
    "large numbers": " ".join(f"{n}e300" for n in range(90_000)),
    "keys": "\n".join(f"so it is a{n}" for n in range(60_000)),
    "lines": "\n" * 1_000_000,
    "equals signs": "=" * 1_000_000,
    "deep LaTeX": "\\frac{" * 160_000,
    "closing braces": "}" * 1_000_000,
    "power": "10**10**10",
    "nothing": "\x00" * 1_000_000,
    "right to left": "\u202e\u05d0\u202c" * 300_000,
    "surrogates": "\ud800" * 1_000_000,
    "growing when lowered": "\u0130" * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("scorer", MMMU.scorers)
@pytest.mark.parametrize("problem", [choice(), question(answer="0.286")], ids=["choice", "open"])
def test_hostile_text_is_wrong_within_a_second(text, scorer, problem):
    start = time.process_time()
    assert not MMMU(scorer=scorer).score(problem, text).correct
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "id_", ["17", "validation_Alchemy_1", "validation_Art", "validation_Art_x", ""]
)
def test_an_id_without_a_subject_is_refused(id_):
    with pytest.raises(ValueError, match=r"MMMU: a problem's id is .* 30 subjects"):
        MMMU().score(choice(id_), "B")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Problem(id="validation_Art_1", prompt="", answer="B"), "question_type None"),
        (choice(options=()), "0 options need a letter"),
        (choice(answer="E"), "answer 'E'"),
        (
            Problem(
                id="validation_Art_1",
                prompt="",
                answer="B",
                extra={"question_type": "multiple-choice", "options": "['one', 'two']"},
            ),
            "a list of options",
        ),
        (question(answer=""), "an empty one"),
        (question(answers=["x", " "]), "an empty one"),
    ],
)
def test_a_problem_without_the_published_fields_is_refused(problem, message):
    with pytest.raises(ValueError, match=message):
        MMMU().score(problem, "B")
