"""Python's arithmetic on text that holds nothing else: what scorers of MathVision leave to eval(), without eval().

The text is parsed, never run: numbers, operators, and the names that the caller allows. Sizes are checked before a power
or a factorial is worked out, so that no text takes long.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from rlsd_lightning.answers.magnitude import MAX_BITS

MAX_CHARS = 10_000
"""Longer text is no number."""
Number = int | float | complex


class NotANumber(ValueError):
    """Raised where an expression stands for no number, or for one that is beyond measure."""


def arithmetic(text: str, names: Mapping[str, Any] | None = None) -> Number | None:
    """Return the number that an arithmetic expression of Python's stands for; None where it stands for none.

    Args:
        text: Python, where ^ is the exclusive or.
        names: numbers, and functions of numbers, that may be used.

    Example:
        >>> arithmetic("24/5"), arithmetic("45^2"), arithmetic("2*sqrt(4)", {"sqrt": math.sqrt})
        (4.8, 47, 4.0)
        >>> [arithmetic(text) for text in ("sqrt(4)", "(3, 4)", "10**10**10", "1/0", "60 cm", "open('x')")]
        [None, None, None, None, None, None]
    """
    if len(text) > MAX_CHARS:
        return None
    try:
        return _worked_out(ast.parse(text, mode="eval").body, names or {})
    except (SyntaxError, ValueError, TypeError, ArithmeticError):
        return None
    except (RecursionError, MemoryError):  # brackets within brackets, or a sum of a thousand terms
        return None


def power(base: Number, exponent: Number) -> Number:
    """Return base ** exponent.

    Raises:
        NotANumber: it is beyond measure.

    Example:
        >>> power(2, 10), power(4, 0.5)
        (1024, 2.0)
    """
    both_whole = isinstance(base, int) and isinstance(exponent, int)
    if both_whole and abs(base) > 1 and base.bit_length() * exponent > MAX_BITS:
        raise NotANumber
    return base**exponent


def factorial(number: int) -> int:
    """Return number!.

    Raises:
        NotANumber: it is beyond measure.

    Example:
        >>> factorial(5)
        120
    """
    if isinstance(number, int) and number * number.bit_length() > MAX_BITS:
        raise NotANumber
    return math.factorial(number)


def _times(left: Number, right: Number) -> Number:
    found = left * right
    if isinstance(found, int) and found.bit_length() > MAX_BITS:
        raise NotANumber
    return found


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: _times, ast.Div: operator.truediv},
    **{ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: power},
    **{ast.BitXor: operator.xor, ast.BitAnd: operator.and_, ast.BitOr: operator.or_},
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    **{ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert},
}


def _worked_out(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the number that a parsed expression stands for; raises NotANumber where it holds anything else."""
    match node:
        case ast.Constant(value=int() | float() | complex() as number):
            return number
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_worked_out(operand, names))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_worked_out(left, names), _worked_out(right, names))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in names:
            return names[name](*(_worked_out(argument, names) for argument in arguments))
    raise NotANumber
