"""Attacks on verifiers of JSON."""

from __future__ import annotations

import json
from typing import Any

from rlsd_lightning.attacks.attack import answered, attack, attacks_in
from rlsd_lightning.types import Problem


def _schema(problem: Problem) -> Any:
    """Return the problem's schema as a value; None where it has none that is a mapping."""
    schema = problem.extra.get("schema")
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            return None
    return schema if isinstance(schema, dict) else None


def _record(problem: Problem) -> dict[str, Any] | None:
    """Return the gold answer if it is a JSON object and the problem has a schema."""
    try:
        gold = json.loads(problem.answer)
    except (ValueError, RecursionError):
        return None
    return gold if isinstance(gold, dict) and _schema(problem) is not None else None


@attack("nothing")
def empty_object(problem: Problem) -> str | None:
    """{}."""
    return answered("{}") if _schema(problem) is not None else None


@attack("nothing")
def empty_list(problem: Problem) -> str | None:
    """[]."""
    return answered("[]") if _schema(problem) is not None else None


@attack("nothing")
def bare_null(problem: Problem) -> str | None:
    """Null."""
    return answered("null") if _schema(problem) is not None else None


@attack("nothing")
def the_schema_itself(problem: Problem) -> str | None:
    """The schema, back again."""
    schema = _schema(problem)
    return None if schema is None else answered(json.dumps(schema))


@attack("nothing")
def only_other_keys(problem: Problem) -> str | None:
    """An object of keys that nobody asked for."""
    return (
        answered('{"reward": 1, "correct": true, "a": "b"}')
        if _schema(problem) is not None
        else None
    )


@attack("guess")
def least_record(problem: Problem) -> str | None:
    """The smallest values of the types that the schema names."""
    schema = _schema(problem)
    return None if schema is None else answered(json.dumps(_least(schema)))


@attack("stuffed")
def record_with_other_keys(problem: Problem) -> str | None:
    """The right record with keys that nobody asked for."""
    record = _record(problem)
    return None if record is None else answered(json.dumps({**record, "reward": 1, "note": "x"}))


@attack("stuffed")
def record_twice(problem: Problem) -> str | None:
    """Every key twice, wrong and right."""
    record = _record(problem)
    if not record:
        return None
    wrong = [f"{json.dumps(key)}: null" for key in record]
    right = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
    return answered("{" + ", ".join([*wrong, *right]) + "}")


@attack("stuffed")
def record_in_a_list(problem: Problem) -> str | None:
    """The right record beside another one, in a list."""
    record = _record(problem)
    return None if record is None else answered(json.dumps([record, {}]))


def _least(schema: Any, depth: int = 0) -> Any:
    """Return the smallest value of a schema's type, required properties included."""
    if not isinstance(schema, dict) or depth > 5:
        return None
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        return {
            name: _least(properties.get(name), depth + 1) for name in schema.get("required", [])
        }
    if kind == "array":
        return [_least(schema.get("items"), depth + 1)] * min(schema.get("minItems", 0), 10)
    if kind == "string":
        return "a" * min(schema.get("minLength", 0), 100)
    return {"integer": 0, "number": 0, "boolean": False}.get(str(kind))


ATTACKS = attacks_in(globals())
