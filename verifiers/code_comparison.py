"""Whether what a program wrote or returned is what was wanted. Runs on data only, far from the program."""

from __future__ import annotations

from typing import Any

_MAX_HEX_DIGITS = 100_000


def same_output(got: bytes, wanted: str) -> bool:
    r"""Whether an output is the wanted one: line by line, word by word.

    How many blanks stand between words does not matter, nor do those at the beginning and the end; the division into
    lines does.

    Args:
        got: standard output.
        wanted: standard output, as the problem gives it.

    Example:
        >>> same_output(b"1 2 \r\n3\n\n", "1  2\n3"), same_output(b"1\n2\n3\n", "1 2\n3"), same_output(b"3.0", "3")
        (True, False, False)
    """
    return _lines(got.decode("utf-8", errors="replace")) == _lines(wanted)


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().split("\n")]


def same_value(got: Any, wanted: Any) -> bool:
    """Whether a returned value is the wanted one; tuples count as lists, and keys of mappings as JSON writes them.

    Args:
        got: as rlsd_lightning.sandbox.values encodes it; anything at all, as its sender may be hostile.
        wanted: in JSON's types.

    Example:
        >>> same_value({"t": "tuple", "v": [1, "a"]}, [1, "a"]), same_value("3", 3), same_value(3.0, 3)
        (True, False, True)
        >>> same_value({"t": "dict", "v": [[1, 2]]}, {"1": 2}), same_value({"t": "handle", "v": 0}, 3)
        (True, False)
    """
    if isinstance(got, dict):
        return _same_tagged(got.get("t"), got.get("v"), wanted)
    if isinstance(got, list):
        return (
            isinstance(wanted, list | tuple)
            and len(got) == len(wanted)
            and all(same_value(one, other) for one, other in zip(got, wanted, strict=True))
        )
    if isinstance(got, bool | int | float) and isinstance(wanted, bool | int | float):
        return got == wanted
    return type(got) is type(wanted) and got == wanted


def _same_tagged(kind: object, content: Any, wanted: Any) -> bool:
    if kind in ("tuple", "list") and isinstance(content, list):
        return same_value(content, wanted)
    if kind == "dict" and isinstance(content, list):
        return _same_mapping(content, wanted)
    if kind in ("int", "float") and isinstance(content, str):
        return isinstance(wanted, int | float) and _number(kind, content) == wanted
    return False


def _same_mapping(pairs: list[Any], wanted: Any) -> bool:
    if not isinstance(wanted, dict) or len(pairs) != len(wanted):
        return False
    keyed = {str(key): value for key, value in wanted.items()}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            return False
        key = _key(pair[0])
        if key not in keyed or not same_value(pair[1], keyed.pop(key)):
            return False
    return True


def _key(key: Any) -> str | None:
    """Return a key as JSON writes it; None for what can be none."""
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    return str(key) if isinstance(key, str | int | float) else None


def _number(kind: object, digits: str) -> int | float | None:
    """Return a number that JSON has no room for; None where the digits are none."""
    if len(digits) > _MAX_HEX_DIGITS:
        return None
    try:
        if kind == "float":
            return float(digits)
        return int(digits, 16) if digits.lstrip("-").startswith("0x") else int(digits)
    except ValueError:
        return None
