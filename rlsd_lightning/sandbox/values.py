"""Plain values as JSON: all that passes between a program that nobody trusts and what judges it.

JSON's own types stand for themselves; a value that JSON has no type for is {"t": its type, "v": its content}. What is
none of these stays where it is: the other side gets a handle, never the thing. So nothing that arrives can have an
opinion of its own on what it equals.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

TYPE_CHECKING = False  # as in typing, which takes long to load
if TYPE_CHECKING:
    from typing import Any

_MAX_DEPTH = 200
_BY_TEXT = {
    ("fractions", "Fraction"): str,
    ("decimal", "Decimal"): str,
    ("datetime", "date"): lambda value: value.isoformat(),
    ("datetime", "datetime"): lambda value: value.isoformat(),
    ("datetime", "time"): lambda value: value.isoformat(),
}
"""Types of the standard library that are made again from a text; found by name, so that they need not be loaded."""
_SEQUENCES = {tuple: "tuple", set: "set", frozenset: "frozenset"}
_VIEWS = ("dict_keys", "dict_values", "dict_items")


class NotPlainError(TypeError):
    """The value is no plain one."""


def encode(value: Any, other: Callable[[Any], Any] | None = None, depth: int = 0) -> Any:
    """Return a value in JSON's types.

    A subclass of a number, a text or a mapping counts as what it is a subclass of.

    Args:
        value: anything.
        other: what to make of a value that is not plain; nothing else may be plain within it.
        depth: how deep it lies in another.

    Raises:
        NotPlainError: it is not plain, or its parts nest too deeply, and there is no `other`.

    Example:
        >>> encode((1, {2.5: "a"}))
        {'t': 'tuple', 'v': [1, {'t': 'dict', 'v': [[2.5, 'a']]}]}
        >>> encode(True), encode(2**80), encode(float("inf"))
        (True, {'t': 'int', 'v': '1208925819614629174706176'}, {'t': 'float', 'v': 'inf'})
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if depth > _MAX_DEPTH:
        raise NotPlainError("it is nested too deeply")
    if isinstance(value, int | float | str):
        return _encode_scalar(value)

    def inner(part: Any) -> Any:
        return encode(part, other, depth + 1)

    if kind is list:
        return [inner(part) for part in value]
    if kind in _SEQUENCES:
        return {"t": _SEQUENCES[kind], "v": [inner(part) for part in value]}
    if isinstance(value, dict):
        pairs = [[inner(key), inner(part)] for key, part in dict.items(value)]
        return {"t": "dict", "v": pairs}
    return _encode_rarer(value, inner, other)


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__index__(value)
        small = -(2**63) <= number < 2**63
        return number if small else {"t": "int", "v": _digits(number)}
    number = float.__float__(value)
    finite = number == number and abs(number) != float("inf")
    return number if finite else {"t": "float", "v": repr(number)}


def _digits(number: int) -> str:
    """Return a number in decimal, or, where it is too long for Python to write it so, in hexadecimal."""
    try:
        return str(number)
    except ValueError:
        return hex(number)


def _encode_rarer(
    value: Any, inner: Callable[[Any], Any], other: Callable[[Any], Any] | None
) -> Any:
    kind = type(value)
    name = (kind.__module__, kind.__qualname__)
    if kind is complex:
        return {"t": "complex", "v": [inner(value.real), inner(value.imag)]}
    if kind in (bytes, bytearray):
        return {"t": kind.__name__, "v": value.hex()}
    if kind is range:
        return {"t": "range", "v": [value.start, value.stop, value.step]}
    if name == ("collections", "deque"):
        return {"t": "deque", "v": [inner(part) for part in value]}
    if isinstance(value, tuple):  # a named one
        return {"t": "tuple", "v": [inner(part) for part in tuple.__iter__(value)]}
    if name in _BY_TEXT:
        return {"t": ".".join(name), "v": _BY_TEXT[name](value)}
    if name == ("datetime", "timedelta"):
        return {"t": "datetime.timedelta", "v": [value.days, value.seconds, value.microseconds]}
    if kind.__module__ == "numpy":
        return inner(value.tolist())
    if kind.__module__ == "builtins" and kind.__name__ in _VIEWS:
        is_set = kind.__name__ != "dict_values"
        return {"t": "set" if is_set else "list", "v": [inner(part) for part in value]}
    if other is None:
        raise NotPlainError(f"it is of type {kind.__name__}")
    return other(value)


_DECODERS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "int": lambda v, _: int(v, 16) if "x" in v else int(v),
    "float": lambda v, _: float(v),
    "complex": lambda v, inner: complex(inner(v[0]), inner(v[1])),
    "bytes": lambda v, _: bytes.fromhex(v),
    "bytearray": lambda v, _: bytearray.fromhex(v),
    "range": lambda v, _: range(*v),
    "tuple": lambda v, inner: tuple(inner(part) for part in v),
    "list": lambda v, inner: [inner(part) for part in v],
    "set": lambda v, inner: {inner(part) for part in v},
    "frozenset": lambda v, inner: frozenset(inner(part) for part in v),
    "iterator": lambda v, inner: iter([inner(part) for part in v]),
    "dict": lambda v, inner: {inner(key): inner(part) for key, part in v},
    "deque": lambda v, inner: _standard("collections", "deque")(inner(part) for part in v),
    "datetime.timedelta": lambda v, _: _standard("datetime", "timedelta")(*v),
    "fractions.Fraction": lambda v, _: _standard("fractions", "Fraction")(v),
    "decimal.Decimal": lambda v, _: _standard("decimal", "Decimal")(v),
    "datetime.date": lambda v, _: _standard("datetime", "date").fromisoformat(v),
    "datetime.datetime": lambda v, _: _standard("datetime", "datetime").fromisoformat(v),
    "datetime.time": lambda v, _: _standard("datetime", "time").fromisoformat(v),
}


def _standard(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def decode(data: Any, other: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the value that `encode` made JSON of.

    Args:
        data: as it arrived; anything at all, as its sender may be hostile.
        other: what to make of an object that no plain value has.

    Raises:
        NotPlainError: it is no value's encoding, and there is no `other`.

    Example:
        >>> decode(encode([(1, 2), {"a": {3}}, 2**80 == 2, b"x"]))
        [(1, 2), {'a': {3}}, False, b'x']
    """

    def inner(part: Any) -> Any:
        return decode(part, other)

    if isinstance(data, list):
        return [inner(part) for part in data]
    if not isinstance(data, dict):
        return data
    decoder = _DECODERS.get(data["t"]) if isinstance(data.get("t"), str) else None
    if decoder is None:
        if other is None:
            raise NotPlainError("it is no plain value")
        return other(data)
    try:
        return decoder(data["v"], inner)
    except NotPlainError:
        raise
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise NotPlainError(f"it is no {data['t']}: {error}") from None
