"""Every attack is a small pure function, in the form that it says, and makes sense of any problem."""

import inspect
import json

import pytest

from rlsd_lightning.answers.extraction import extract_answer
from rlsd_lightning.attacks import ATTACKS
from rlsd_lightning.attacks.attack import options_of, wrong_answers
from rlsd_lightning.types import Problem

SECRET = "xylophone 8128"
PROBLEMS = {
    "text": {},
    "choice": {"options": ["cat", "dog"]},
    "sql": {"schema_and_data": "CREATE TABLE IF NOT EXISTS emp(a INTEGER);"},
    "stdin": {"mode": "stdin_stdout", "inputs": ["1"], "outputs": ["2"]},
    "function": {"mode": "functional", "fn_name": "double", "inputs": [[1]], "outputs": [2]},
    "schema": {"schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}},
}  # fmt: skip
BY_NAME = {attack.name: attack for attack in ATTACKS}


def problem(name, answer=SECRET, **more):
    return Problem(
        id=name, prompt="How many are 3 dogs?", answer=answer, extra=PROBLEMS[name], **more
    )


def respond(name, asked):
    return BY_NAME[name].respond(asked)


def test_names_are_unique_and_each_attack_says_what_it_tries():
    assert len(BY_NAME) == len(ATTACKS) > 90
    assert all(attack.tries and not attack.tries.endswith(".") for attack in ATTACKS)
    assert len({attack.tries for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_only_attacks_that_are_given_the_answer_use_it(attack):
    responses = [attack.respond(problem(name, reference="because")) for name in PROBLEMS]
    assert responses == [attack.respond(problem(name, reference="because")) for name in PROBLEMS]
    if attack.kind not in ("stuffed", "rule"):
        assert not any(SECRET in (response or "") for response in responses)
    source = inspect.getsource(attack.respond)
    assert len(source.splitlines()) < 25, "an attack is small"


def test_every_attack_suits_some_problem():
    regions = [
        Problem(id="1", prompt="", answer='{"time": [1, 2], "boxes": {"1": [0, 0, 1, 1], "2": [0, 0, 1, 1]}}'),
        Problem(id="2", prompt="", answer="[0, 0, 1, 1]", reference="because"),
    ]  # fmt: skip
    record = Problem(id="3", prompt="5 of 7?", answer='{"a": "b"}', extra=PROBLEMS["schema"])
    asked = [*map(problem, PROBLEMS), *regions, record]
    idle = [a.name for a in ATTACKS if all(a.respond(one) is None for one in asked)]
    assert idle == []


@pytest.mark.parametrize(
    ("name", "suited"),
    [
        ("equal to everything", {"stdin", "function"}),
        ("no rows", {"sql"}),
        ("empty object", {"schema"}),
        ("all options", {"choice"}),
        ("endless box", set()),
        ("empty", set(PROBLEMS)),
    ],
)
def test_attacks_leave_out_what_they_do_not_suit(name, suited):
    assert {kind for kind in PROBLEMS if respond(name, problem(kind)) is not None} == suited


def test_programs_define_the_function_that_is_asked_for_or_print():
    for name in ("equal to everything", "callers frame", "forged report", "exit 0 when called"):
        function = extract_answer(respond(name, problem("function")))
        program = extract_answer(respond(name, problem("stdin")))
        assert "def double(" in function
        assert "print(" in program
        for text in (function, program):
            compile(text.removeprefix("```python\n").removesuffix("```"), name, "exec")


def test_queries_use_the_first_table():
    assert "SELECT * FROM emp WHERE 1 = 1" in respond("always true", problem("sql"))


def test_regions_have_the_form_of_the_gold_answer_and_not_its_numbers():
    asked = Problem(id="1", prompt="", answer='{"time": [1, 2], "boxes": {"7": [3, 4, 5, 6]}}')
    made = json.loads(extract_answer(respond("whole picture", asked)))
    assert made == {"time": [0, 100], "boxes": {"7": [0, 0, 1000, 1000]}}
    bare = Problem(id="1", prompt="", answer="[1, 2, 3, 4]")
    assert extract_answer(respond("inverted box", bare)) == "[1000, 1000, 0, 0]"


def test_the_least_record_follows_the_schema():
    schema = {
        "type": "object",
        "required": ["a", "b", "c", "d"],
        "properties": {
            "a": {"enum": ["x", "y"]},
            "b": {"type": "array", "minItems": 2, "items": {"type": "integer"}},
            "c": {"type": ["string", "null"], "minLength": 1},
            "d": {"required": ["e"], "properties": {"e": {"const": 5}}},
        },
    }
    asked = Problem(id="1", prompt="", extra={"schema": json.dumps(schema)})
    made = json.loads(extract_answer(respond("least record", asked)))
    assert made == {"a": "x", "b": [0, 0], "c": "a", "d": {"e": 5}}


@pytest.mark.parametrize("answer", ["4", "0.5", r"\frac{1}{2}", "B", "cat", "yes", "False", "dogs"])
def test_wrong_answers_are_wrong(answer):
    for wrong in wrong_answers(problem("choice", answer)):
        assert wrong.lower() != answer.lower()


def test_options_are_read_as_a_list_or_by_letter():
    assert options_of(problem("choice")) == {"A": "cat", "B": "dog"}
    by_letter = Problem(id="1", prompt="", extra={"options": {"A": 1, "B": None}})
    assert options_of(by_letter) == {"A": "1"}
    assert options_of(problem("text")) == {}
