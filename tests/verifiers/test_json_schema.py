import json
import time

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.json_schema import JsonSchema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ANN = '{"name": "Ann", "age": 30}'
BOMB = "(a|aa)+b$"


def problem(schema, **extra):
    extra["schema"] = schema
    return Problem(id="q7", prompt="", extra=extra, location="train.jsonl:7")


def judge(schema, answer, **extra):
    return JsonSchema().verify(problem(schema, **extra), f"<answer>{answer}</answer>")


@pytest.mark.parametrize(
    "answer",
    [
        *(
            ANN,
            f"\n```json\n{ANN}\n```\n",
            f"```\n{ANN}\n```",
            f"Here it is:\n```json\n{ANN}\n```\nDone.",
        ),
        *(f"```\n{{}}\n```\n```\n{ANN}\n```", '{"name": "```", "age": 1e1}'),
    ],
)
def test_json_stands_alone_or_in_a_code_block(answer):
    assert judge(PERSON, answer).correct


@pytest.mark.parametrize(
    "answer",
    [
        *("", "null", "{}", "Ann", f"{ANN} {ANN}", f"It is {ANN}", f"```\n{ANN}", "[" + ANN + "]"),
        *(
            '{"name": "Ann", "age": -1}',
            '{"name": "Ann", "age": NaN}',
            '{"name": "Ann", "age": "30"}',
        ),
        *('{"name": "A", "age": 1, "age": 2}', '{"name": "A", "age": 1, "x": 2}', "{" * 100_000),
        '{"name": "Ann", "age": true}',
    ],
)
def test_what_the_schema_does_not_allow_is_wrong(answer):
    verdict = judge(PERSON, answer)
    assert (verdict.reward, verdict.correct, verdict.valid) == (0, False, True)


def test_the_first_code_block_counts_if_told_so():
    answer = f"```\n{ANN}\n```\n```\n{{}}\n```"
    assert not judge(PERSON, answer).correct
    verifier = JsonSchema(which="first")
    assert verifier.verify(problem(PERSON), f"<answer>{answer}</answer>").correct


def test_the_reason_says_where_the_fault_is():
    reason = judge(PERSON, '{"name": "Ann", "age": "30"}').reason
    assert reason.endswith("at $.age: '30' is not of type 'integer'")


def test_a_schema_may_be_text():
    assert judge(json.dumps(PERSON), ANN).correct
    assert judge("true", "1").correct
    assert not judge(False, "1").correct


def test_the_draft_is_the_schemas_then_the_problems_then_the_arguments():
    tuple_schema = {"items": [{"type": "integer"}]}  # a list of schemas up to draft 2019-09
    assert not judge(tuple_schema, '["a"]', draft="7").correct
    with pytest.raises(ValueError, match=r"no JSON Schema: at \$\.items"):
        judge(tuple_schema, '["a"]')
    own = tuple_schema | {"$schema": "http://json-schema.org/draft-07/schema#"}
    assert not judge(own, '["a"]', draft="2020-12").correct
    assert not JsonSchema(draft="7").verify(problem(tuple_schema), '["a"]').correct


def test_patterns_keep_their_meaning():
    schema = {
        "properties": {"id": {"pattern": "^[A-Z]{2}$"}},
        "patternProperties": {"^n_": {"type": "integer"}},
        "additionalProperties": {"type": "boolean"},
    }
    for good in ('{"id": "AB"}', '{"id": 3}', '{"n_a": 1}', '{"x": true}', "1"):
        assert judge(schema, good).correct, good
    for bad in ('{"id": "ab"}', '{"n_a": true}', '{"x": 1}'):
        assert not judge(schema, bad).correct, bad
    assert judge(
        {"patternProperties": {"^a": {}}, "additionalProperties": False}, '{"ab": 1}'
    ).correct
    assert judge({"additionalProperties": True}, '{"ab": 1}').correct


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": BOMB}, json.dumps("a" * 60)),
        ({"patternProperties": {BOMB: {}}}, json.dumps({"a" * 60: 1})),
        (
            {"patternProperties": {BOMB: {}}, "additionalProperties": False},
            json.dumps({"a" * 60: 1}),
        ),
        (
            {"additionalProperties": False, "patternProperties": {BOMB: {}}},
            json.dumps({"a" * 60: 1}),
        ),
        ({"uniqueItems": True}, json.dumps([{"a": i} if i % 2 else i for i in range(17_000)])),
        ({"$ref": "#"}, "1"),
    ],
)
def test_what_would_take_for_ever_is_not_judged(schema, answer):
    start = time.process_time()
    verdict = judge(schema, answer)
    assert time.process_time() - start < 3
    assert not verdict.valid
    assert verdict.reward == 0


def test_patterns_out_of_reach_must_be_simple():
    for pattern in (BOMB, "a*b", "^a+a+$", "^a{1,9}"):
        schema = {"patternProperties": {pattern: {}}, "unevaluatedProperties": False}
        with pytest.raises(
            ValueError, match="beside unevaluatedProperties, where it must begin with"
        ):
            judge(schema, "{}")
    schema = {"patternProperties": {"^[ab]+$": {}}, "unevaluatedProperties": False}
    assert judge(schema, '{"ab": 1}').correct
    assert not judge(schema, '{"abc": 1}').correct


@pytest.mark.parametrize(
    "reference", ["file:///etc/passwd", "http://127.0.0.1:9/schema", "#/$defs/no"]
)
def test_nothing_is_fetched(reference):
    verdict = judge({"$ref": reference}, "1")
    assert not verdict.valid
    assert "leads nowhere" in verdict.reason
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra.schema refers to"):
        JsonSchema().check([problem({"items": {"$ref": reference}})])


def test_no_file_is_read(tmp_path):
    (tmp_path / "schema.json").write_text("{}", encoding="utf-8")
    assert not judge({"$ref": (tmp_path / "schema.json").as_uri()}, "1").valid


def test_references_within_the_schema_and_to_the_drafts_are_fine():
    schemas = [
        {"$defs": {"a": {"$anchor": "here", "type": "string"}}, "$ref": "#here"},
        {"$id": "http://x/y", "$defs": {"a": {"$id": "a", "type": "string"}}, "$ref": "a"},
        {"properties": {"$ref": {"type": "string"}}, "enum": ["a", {"$ref": "not a reference"}]},
    ]
    JsonSchema().check(map(problem, schemas))
    for schema in schemas:
        assert judge(schema, '"a"').correct
    assert not judge(
        {"$ref": "https://json-schema.org/draft/2020-12/schema"}, '{"type": 1}'
    ).correct


@pytest.mark.parametrize(
    "schema",
    [
        None,
        3,
        [],
        "{",
        {"type": "text"},
        {"pattern": "(a"},
        {"minimum": float("nan")},
        {"$schema": 5},
    ],
)
def test_a_fault_in_the_problem_names_problem_and_place(schema):
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra\.schema"):
        JsonSchema().check([problem(schema)])
    with pytest.raises(ValueError, match=r"problem 'q7' \(train.jsonl:7\): extra\.schema"):
        judge(schema, "1")


def test_a_strange_draft_names_problem_and_place():
    with pytest.raises(
        ValueError, match=r"problem 'q7' .*extra.draft is '5', but JsonSchema knows 3"
    ):
        judge({}, "1", draft="5")


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="draft is '5', but it must be one of 3, 4"):
        JsonSchema(draft="5")
    with pytest.raises(ValueError, match="time_limit_s is 0"):
        JsonSchema(time_limit_s=0)
