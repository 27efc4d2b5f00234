"""Whether the answer is JSON that a schema allows (JSON Schema, drafts 3 to 2020-12, by the package jsonschema).

The whole answer is one JSON value, or holds it in a fenced code block. What this file adds to jsonschema:

- JSON is read strictly (rlsd_lightning.verifiers.strict_json).
- Patterns run under a time limit (rlsd_lightning.verifiers.patterns), and so does the whole comparison.
- Nothing is fetched: a $ref leads to the schema itself or to the drafts' own meta-schemas, else the problem is at fault.

"format" is a note, not a rule, as the drafts since 2019-09 say. A valid record need not be the right one: pair this
verifier with another in a weighted_sum where the values matter.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema
import referencing.exceptions
import referencing.jsonschema
from jsonschema.protocols import Validator
from jsonschema_specifications import REGISTRY

from rlsd_lightning.answers.deadline import within
from rlsd_lightning.answers.extraction import check_extraction, extract_answer
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.patterns import matches_somewhere, pattern_fault
from rlsd_lightning.verifiers.strict_json import json_answer, read_json
from rlsd_lightning.verifiers.verdicts import not_judged, quoted

_DRAFTS = {
    "3": jsonschema.Draft3Validator,
    "4": jsonschema.Draft4Validator,
    "6": jsonschema.Draft6Validator,
    "7": jsonschema.Draft7Validator,
    "2019-09": jsonschema.Draft201909Validator,
    "2020-12": jsonschema.Draft202012Validator,
}
_SIMPLE_PATTERN = re.compile(r"[^*+?{(|]*|\^[^*+?{(|]*[*+][^*+?{(|]*")
"""No group and no alternative, and nothing repeated but one item behind ^: linear time under any engine."""


class JsonSchema:
    r"""Right if the answer is valid under the problem's schema, `extra["schema"]` (a mapping, or its JSON text).

    A schema's own "$schema" says which draft it is written in; else the problem's `extra["draft"]`; else the argument.

    Args:
        draft: 3, 4, 6, 7, 2019-09 or 2020-12.
        time_limit_s: what takes longer is not judged.
        sources: where answers stand; see rlsd_lightning.answers.extraction.
        which: of several answer tags or code blocks, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", extra={"schema": {"required": ["age"]}})
        >>> JsonSchema().verify(problem, '<answer>\n```json\n{"age": 30}\n```\n</answer>').correct
        True
        >>> JsonSchema().verify(problem, '<answer>{"name": "Ann"}</answer>').reason
        'wrong: got \'{"name": "Ann"}\', at $: \'age\' is a required property'
    """

    def __init__(
        self,
        *,
        draft: str = "2020-12",
        time_limit_s: float = 2.0,
        sources: Sequence[str] = ("answer", "boxed", "response"),
        which: str = "last",
    ) -> None:
        if draft not in _DRAFTS:
            raise ValueError(
                f"JsonSchema: draft is {draft!r}, but it must be one of {', '.join(_DRAFTS)}. Set one of them."
            )
        if time_limit_s <= 0:
            raise ValueError(
                f"JsonSchema: time_limit_s is {time_limit_s}, but it must be more than 0. Keep the default if in doubt."
            )
        self.draft = draft
        self.time_limit_s = time_limit_s
        self.sources = check_extraction("JsonSchema", which, sources)
        self.which = which

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the problem's schema."""
        validator = self._validator(problem)
        answer = extract_answer(response, self.which, self.sources)
        if not answer:
            return _wrong(answer, "no answer found")
        try:
            value = json_answer(answer, self.which)
        except ValueError as error:
            return _wrong(answer, f"which is no JSON: {error}")
        try:
            fault = within(self.time_limit_s, lambda: _first_fault(validator, value))
        except TimeoutError as error:
            return not_judged(f"checking {quoted(answer)} against the schema {error}")
        except RecursionError:
            return not_judged("the schema leads back to itself without an end")
        except referencing.exceptions.Unresolvable as error:
            return not_judged(f"the schema's $ref {quoted(str(error.ref))} leads nowhere")
        if fault:
            return _wrong(answer, fault)
        return Verdict(reward=1.0, correct=True, reason=f"valid: got {quoted(answer)}")

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the answer."""
        return extract_answer(response, self.which, self.sources)

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether every problem has a schema that can be used.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: a schema is missing, is none, or refers to what is not there; the message names the problem.
        """
        for problem in problems:
            reference = _lost_reference(self._validator(problem))
            if reference:
                raise ValueError(
                    f"{problem.place}: extra.schema refers to {reference!r}, but nothing is fetched: a $ref must lead "
                    f"into the schema itself. Copy what is meant into its $defs."
                )

    def _validator(self, problem: Problem) -> Validator:
        extra = problem.extra
        schema, draft = extra.get("schema"), str(extra.get("draft", self.draft))
        if draft not in _DRAFTS:
            raise ValueError(
                f"{problem.place}: extra.draft is {draft!r}, but JsonSchema knows {', '.join(_DRAFTS)}. Mend it there."
            )
        try:
            text = schema if isinstance(schema, str) else json.dumps(schema)
            return _compiled(text, draft)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{problem.place}: extra.schema is {quoted(repr(schema))}, which is no JSON Schema: {error}. "
                f"Mend it in the data set."
            ) from None


def _wrong(answer: str | None, why: str) -> Verdict:
    got = "" if answer is None else f"wrong: got {quoted(answer)}, "
    return Verdict(reward=0.0, correct=False, reason=f"{got}{why}")


def _first_fault(validator: Validator, value: Any) -> str:
    """Return the first thing that a schema does not allow of a value; nothing if it allows all of it."""
    error = next(validator.iter_errors(value), None)
    return "" if error is None else f"at {error.json_path[:80]}: {_ascii(error.message)}"


def _ascii(message: str, limit: int = 160) -> str:
    return ascii(message[:limit])[1:-1].replace("\\'", "'")


@functools.lru_cache(maxsize=1024)
def _compiled(text: str, draft: str) -> Validator:
    """Return a validator for a schema.

    Args:
        text: the schema as JSON.
        draft: which it is written in, unless it says so itself.

    Raises:
        ValueError: it is no schema.
    """
    schema = read_json(text)
    if not isinstance(schema, Mapping | bool):
        raise ValueError("it must be an object, true or false")
    if isinstance(schema, Mapping) and not isinstance(schema.get("$schema", ""), str):
        raise ValueError(f"its $schema is {schema['$schema']!r}, but it must be a text")
    kind = jsonschema.validators.validator_for(schema, default=_DRAFTS[draft])
    try:
        kind.check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        raise ValueError(f"at {error.json_path}: {error.message[:160]}") from None
    validator = _with_safe_patterns(kind)(schema, registry=REGISTRY)
    for pattern in _patterns(validator):
        fault = pattern_fault(pattern)
        if fault:
            raise ValueError(f"the pattern {pattern!r} cannot be used: {fault}")
    return validator


@functools.cache
def _with_safe_patterns(kind: type[Validator]) -> type[Validator]:
    """Return a validator class whose patterns run under a time limit."""
    keywords = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    return jsonschema.validators.extend(kind, keywords)


def _pattern(
    validator: Validator, pattern: str, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not matches_somewhere(pattern, instance):
        yield jsonschema.ValidationError(f"{quoted(instance)} does not match {pattern!r}")


def _pattern_properties(
    validator: Validator, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if matches_somewhere(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Validator, allowed: Any, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in named or any(matches_somewhere(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield jsonschema.ValidationError(f"the property {quoted(name)} is not allowed")
        elif allowed is not True:
            yield from validator.descend(value, allowed, path=name)


def _subschemas(validator: Validator) -> Iterator[tuple[Any, Any]]:
    """Yield the schema and every schema in it, each with what resolves its references."""
    specification = referencing.jsonschema.specification_with(
        type(validator).META_SCHEMA.get("$schema", "")
    )
    root = specification.create_resource(validator.schema)
    identity = root.id() or ""
    resolver = REGISTRY.with_resource(identity, root).crawl().resolver(identity)
    waiting = [(root, resolver)]
    while waiting:
        resource, resolver = waiting.pop()
        yield resource.contents, resolver
        waiting += [(sub, resolver.in_subresource(sub)) for sub in resource.subresources()]


def _patterns(validator: Validator) -> Iterator[str]:
    """Yield every pattern of a schema.

    jsonschema itself runs those of patternProperties where unevaluatedProperties stands in the schema, out of reach of
    a time limit; there they are to be simple.
    """
    schemas = [found for found, _ in _subschemas(validator) if isinstance(found, Mapping)]
    to_be_simple = any("unevaluatedProperties" in schema for schema in schemas)
    for schema in schemas:
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for pattern in schema.get("patternProperties", {}):
            if to_be_simple and not _SIMPLE_PATTERN.fullmatch(pattern):
                raise ValueError(
                    f"the pattern {pattern!r} of patternProperties stands beside unevaluatedProperties, where it must "
                    f"begin with ^, repeat one item at most, and hold no group or alternative"
                )
            yield pattern


def _lost_reference(validator: Validator) -> str | None:
    """Return the first reference of a schema that leads nowhere; None if all lead somewhere."""
    for schema, resolver in _subschemas(validator):
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = schema.get(keyword) if isinstance(schema, Mapping) else None
            if isinstance(reference, str):
                try:
                    resolver.lookup(reference)
                except referencing.exceptions.Unresolvable:
                    return reference
    return None
