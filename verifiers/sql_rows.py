"""Whether two results of a query are the same: bags of rows, or lists of rows where the order counts.

Names of columns do not matter. Text is not a number, NULL equals NULL alone. Whole numbers are compared exactly, unless
either side has a fractional number in that column: then both are compared to 9 digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

Rows = Sequence[Sequence[Any]]
"""Of None, int, float, str and bytes. [num_rows, num_columns]"""
_Column = list[Hashable]
_MAX_TRIES = 5_000
"""Assignments of columns that are tried at most; many columns that look alike have endless ones."""


def same_result(
    got: Rows, wanted: Rows, *, ordered: bool = False, any_column_order: bool = False
) -> bool:
    """Whether a query's result is the wanted one.

    Args:
        got: rows of the query that is judged.
        wanted: rows of the gold query.
        ordered: whether rows must come in the same order.
        any_column_order: whether columns may stand in another order.

    Example:
        >>> same_result([("b", 2), ("a", 1)], [("a", 1), ("b", 2)])
        True
        >>> same_result([("b", 2), ("a", 1)], [("a", 1), ("b", 2)], ordered=True)
        False
        >>> same_result([(1, "a")], [("a", 1.0)], any_column_order=True)
        True
        >>> same_result([(0.1 + 0.2,)], [(0.3,)]), same_result([("3",)], [(3,)]), same_result([(1,), (1,)], [(1,)])
        (True, False, False)
    """
    if len(got) != len(wanted):
        return False
    if not wanted:
        return True
    if len(got[0]) != len(wanted[0]):
        return False
    got_columns = list(zip(*got, strict=True))
    wanted_columns = list(zip(*wanted, strict=True))
    same = _same_list if ordered else _same_bag
    if not any_column_order:
        return same(*_comparable(got_columns, wanted_columns))
    orders = _column_orders(got_columns, wanted_columns)
    return any(same(*_comparable([got_columns[i] for i in o], wanted_columns)) for o in orders)


def _column_orders(
    got: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]
) -> Iterator[tuple[int, ...]]:
    """Yield the orders in which every column of one result holds the values of the other's, up to a bound."""
    fitting = [[i for i, column in enumerate(got) if _same_values(column, w)] for w in wanted]
    waiting: list[tuple[int, ...]] = [()]
    for _ in range(_MAX_TRIES):
        if not waiting:
            return
        chosen = waiting.pop()
        if len(chosen) == len(wanted):
            yield chosen
        else:
            waiting += [(*chosen, i) for i in reversed(fitting[len(chosen)]) if i not in chosen]


def _same_values(got: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return _same_bag(*_comparable([got], [wanted]))


def _same_list(got: list[_Column], wanted: list[_Column]) -> bool:
    return got == wanted


def _same_bag(got: list[_Column], wanted: list[_Column]) -> bool:
    return Counter(zip(*got, strict=True)) == Counter(zip(*wanted, strict=True))


def _comparable(
    got: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]
) -> tuple[list[_Column], list[_Column]]:
    """Return columns whose values are equal where they are meant to be."""
    pairs = []
    for ours, theirs in zip(got, wanted, strict=True):
        exact = not any(isinstance(value, float) for column in (ours, theirs) for value in column)
        key: Callable[[Any], Hashable] = _exactly if exact else _nine_digits
        pairs.append(([key(value) for value in ours], [key(value) for value in theirs]))
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


def _exactly(value: Any) -> Hashable:
    return value


def _nine_digits(value: Any) -> Hashable:
    """Return a number as its first nine digits, apart from any text; other values as they are.

    Example:
        >>> _nine_digits(0.1 + 0.2) == _nine_digits(0.3), _nine_digits(-0.0) == _nine_digits(0)
        (True, True)
    """
    if not isinstance(value, int | float):
        return value
    try:
        return ("number", f"{float(value) + 0.0:.9g}")
    except OverflowError:  # a whole number beyond any double
        return value
