"""What a problem of code says of its tests, read once and found fault with before training."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

from rlsd_lightning.sandbox.assertions import told_apart
from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.code_languages import Language, language_named

MODES = ("stdin_stdout", "functional", "asserts")
SCORINGS = ("all_or_nothing", "fraction")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTests:
    """The tests of one problem, and what a program may use up in each."""

    mode: str
    """One of MODES."""
    language: Language
    inputs: tuple[Any, ...] = ()
    """Standard inputs, or lists of arguments, one per test."""
    outputs: tuple[Any, ...] = ()
    """Standard outputs, or values in JSON's types, one per test."""
    function: str = ""
    """What is called."""
    test_code: str = ""
    """Python with asserts."""
    num_tests: int
    time_limit_s: float
    memory_limit_mb: int
    scoring: str
    """One of SCORINGS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds where a problem does not say."""

    scoring: str
    time_limit_s: float
    memory_limit_mb: int


def read_tests(problem: Problem, defaults: Defaults) -> CodeTests:
    """Return the tests of a problem, from its `extra`; see docs/sandbox.md for the formats.

    Args:
        problem: of code.
        defaults: what holds where it does not say.

    Raises:
        ValueError: something is missing or makes no sense; the message names the problem.
    """
    try:
        return _read(problem.extra, defaults)
    except ValueError as error:
        raise ValueError(f"{problem.place}: extra: {error}. Mend it in the data set.") from None


def _read(extra: dict[str, Any], defaults: Defaults) -> CodeTests:
    mode = _one_of(extra.get("mode"), "mode", MODES)
    scoring = _one_of(extra.get("scoring", defaults.scoring), "scoring", SCORINGS)
    limits = {
        "time_limit_s": _positive(extra, "time_limit_s", defaults.time_limit_s),
        "memory_limit_mb": int(_positive(extra, "memory_limit_mb", defaults.memory_limit_mb)),
    }
    language = language_named(extra.get("language", "python"))
    if mode != "stdin_stdout" and language.name != "python":
        raise ValueError(
            f"the mode is {mode!r} and the language {language.name!r}, but only Python's functions are called; others "
            f"need stdin_stdout"
        )
    shared = {"mode": mode, "scoring": scoring, "language": language, **limits}
    if mode == "asserts":
        test_code, num_tests = _asserts(extra.get("test_code"), extra.get("entry_point"))
        return CodeTests(test_code=test_code, num_tests=num_tests, **shared)  # type: ignore[arg-type]
    inputs, outputs = _pairs(extra)
    if mode == "functional":
        function = extra.get("fn_name")
        if not isinstance(function, str) or not function.isidentifier():
            raise ValueError(f"fn_name is {function!r}, but it must be the name of a function")
        _check_arguments(inputs)
        return CodeTests(
            function=function, inputs=inputs, outputs=outputs, num_tests=len(inputs), **shared
        )  # type: ignore[arg-type]
    for name, texts in (("inputs", inputs), ("outputs", outputs)):
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{name} holds more than texts, but stdin_stdout reads and writes text"
            )
    return CodeTests(inputs=inputs, outputs=outputs, num_tests=len(inputs), **shared)  # type: ignore[arg-type]


def _one_of(value: object, name: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, but it must be one of {', '.join(known)}")
    return str(value)


def _positive(extra: dict[str, Any], name: str, default: float) -> float:
    value = extra.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}, but it must be a number above 0")
    return value


def _pairs(extra: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    inputs, outputs = extra.get("inputs"), extra.get("outputs")
    if not isinstance(inputs, list | tuple) or not isinstance(outputs, list | tuple) or not inputs:
        raise ValueError("inputs and outputs must be lists with at least one test")
    if len(inputs) != len(outputs):
        raise ValueError(
            f"there are {len(inputs)} inputs and {len(outputs)} outputs, but each test needs one of both"
        )
    return tuple(inputs), tuple(outputs)


def _check_arguments(inputs: tuple[Any, ...]) -> None:
    for number, arguments in enumerate(inputs):
        if not isinstance(arguments, list | tuple):
            raise ValueError(
                f"inputs[{number}] is {arguments!r:.60}, but it must be the list of a call's arguments"
            )


def _asserts(test_code: object, entry_point: object) -> tuple[str, int]:
    """Return tests that run, and how many they are; a function `check` that nobody calls is given the entry point."""
    if not isinstance(test_code, str):
        raise ValueError(f"test_code is {test_code!r:.60}, but it must be Python with asserts")
    try:
        tree = ast.parse(test_code)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"test_code is no Python: {error}") from None
    num_tests = sum(is_test for _, is_test in told_apart(tree))
    has_check = any(
        isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body
    )
    if not num_tests and has_check and isinstance(entry_point, str):
        return f"{test_code}\ncheck({entry_point})\n", 1
    if not num_tests or not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise ValueError(
            "test_code holds no assert that runs, but asserts (or a call of a function with asserts) are counted"
        )
    return test_code, num_tests
