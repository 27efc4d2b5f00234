r"""VLMEvalKit's comparison of free-form answers of MathVision (e8e78f05, vlmeval/dataset/utils/mathv.py), without its judge.

It compares the whole response with the gold answer: as text; as Python (where 45^2 is 47); as LaTeX, read by
latex2sympy2_extended and printed as Python. Names do not count, not even pi and sqrt, so that an irrational gold answer needs
the identical text. One name does: by an accident of its scope the lone letter "a" stands for the gold answer's number.
Nothing is handed to an interpreter here; what is too long, too deep or takes too long is no number.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.math_normalization import extract_boxed_content

from rlsd_lightning.answers.deadline import within
from rlsd_lightning.answers.magnitude import MAX_BITS, bits_bound
from rlsd_lightning.evaluators.mathvision_arithmetic import Number, arithmetic

TOLERANCE = 1e-6
MAX_CHARS = 150
"""A longer formula is no number."""
MAX_DEPTH = 6
"""Brackets within brackets; the parser's time grows steeply with them."""
MAX_BOXES = 20
"""More of them are no single number, and looking them up takes time that grows with their square."""
SHORT_CHARS = 80
TIME_LIMIT_S = 0.6
"""A formula that is not short and takes longer is no number."""
_PYTHON = re.compile(r"[0-9a-fjox_.+\-*/%&|^~()\s]+", re.ASCII)
"""What numbers and operators are written with, "a" included."""
_COMMAND = re.compile(r"\\[a-z]+")
_LETTER = re.compile(r"[^\W\d_a]")
_NEARLY = re.compile(r"\\approx|[\u2248\u224a\u224b\u2243\u2245]")
"""Letters before one of these signs do not count: "x \\approx 60" is 60."""


def is_equal(answer: str, gold: str) -> bool:
    r"""Whether an answer equals the gold one as text but for case, or as a number within 1e-6.

    Example:
        >>> is_equal(r"so it is \boxed{\frac{120}{2}}.", "60"), is_equal("0.5", "1:2"), is_equal("47", "45^2")
        (True, True, True)
        >>> is_equal(r"5\pi", r"$5\pi$"), is_equal("1.23", "1.2"), is_equal("60 cm", "60")
        (False, False, False)
    """
    answer, gold = answer.lower().strip(), gold.lower().strip()
    if answer == gold:
        return True
    return any(_close(read, answer, gold) for read in (python_number, latex_number))


def python_number(text: str, a: Number | None = None) -> Number | None:
    """Return the number that Python reads in a text; None for anything but arithmetic.

    Args:
        text: in lower case.
        a: what the name "a" stands for.

    Example:
        >>> python_number("1_000 - 0x10"), python_number("60 cm"), python_number("a", a=7)
        (984, None, 7)
    """
    if len(text) > MAX_CHARS or not _PYTHON.fullmatch(text):
        return None
    return arithmetic(text, {} if a is None else {"a": a})


def latex_number(text: str, a: Number | None = None) -> Number | None:
    r"""Return the number that LaTeX in a text stands for, in boxes if there are any; None for anything else.

    Args:
        text: in lower case.
        a: what the letter "a" stands for.

    Example:
        >>> latex_number(r"thus $\boxed{1\frac{1}{2}}$"), latex_number("34,426"), latex_number(r"\sqrt{4}")
        (1.5, 34426, None)
    """
    if text.count("\\boxed") + text.count("\\fbox") > MAX_BOXES:
        return None
    inside = extract_boxed_content(text, mode="all")
    printed = _printed(inside) if len(inside) <= MAX_CHARS else None
    return None if printed is None else python_number(printed, a)


@functools.lru_cache(maxsize=8192)
def _printed(latex: str) -> str | None:
    """Return LaTeX as Python text; None where letters or bars show that no number would come of it, or where it breaks the grammar."""
    text = normalize_latex(latex, NormalizationConfig())
    if "|" in text or (_LETTER.search(_COMMAND.sub(" ", text)) and not _NEARLY.search(text)):
        return None
    if _depth(text) > MAX_DEPTH or bits_bound(text) > MAX_BITS:
        return None
    if len(text) <= SHORT_CHARS:
        return _parsed(text)
    try:
        return within(TIME_LIMIT_S, lambda: _parsed(text))
    except TimeoutError:
        return None


def _parsed(latex: str) -> str | None:
    """Return what the parser makes of LaTeX, printed."""
    try:
        tree = latex2sympy(latex, normalization_config=None)
    except Exception:  # the parser raises plain Exception for whatever it cannot read
        return None
    return str(tree) if isinstance(tree, sympy.Basic) else None


def _close(read: Callable[..., Number | None], answer: str, gold: str) -> bool:
    wanted = read(gold)
    got = None if wanted is None else read(answer, wanted)
    try:
        return got is not None and abs(wanted - got) < TOLERANCE
    except OverflowError:  # a whole number beyond any float
        return False


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest
