r"""LaTeX of numbers as latex2sympy2 1.9.1 reads it, the parser of MATH-V's scorer; nothing is handed to an interpreter.

The scorer runs `round(eval(str(latex2sympy(s))), 2)` with the names of Python's math module in reach. That parser cannot be
installed beside Hydra (it needs antlr 4.7.2), and latex2sympy2_extended answers otherwise: it knows degrees, boxes, tuples
and sets, takes mixed numbers for sums, and reads to the end. As nothing is simplified on the way, a letter is always an
error, so that only the grammar of numbers is left, which is read here into the same unevaluated SymPy tree:

- a power takes one whole number or braces, from left to right: 2^10 is 1024, 2^3^2 is 64, 2^-1 is nothing
- factors side by side are multiplied, mixed numbers too: 2\frac{1}{2} is 1
- \frac and \binom need their braces; a thousands comma is dropped; ":" divides; "'" means nothing
- \log is to the base 10; e alone, \ln, |x|, \lceil, \max and \mod become names that Python's math does not know
- no end is asked for: a closing bracket, "_", "." or one of the grammar's words ("tr", "rows") ends the number, so that
  "5)", "1_000" and "5 triangles" are 5, 1 and 5. "60%" and "60 cm" are nothing

The tree's text is worked out, not the tree: SymPy prints -\frac{1}{2\pi} as -1*1/2*pi, which is what the scorer compares.
Left out, as no answer looks so: \tau, \gcd, \lcm, \operatorname, determinants, inequalities (1 or 0), x=5.
"""

from __future__ import annotations

import functools
import math
import re

import sympy

from rlsd_lightning.answers.deadline import within
from rlsd_lightning.evaluators.mathvision_arithmetic import NotANumber, arithmetic, factorial

MAX_CHARS = 1_000
"""Longer LaTeX stands for no number."""
MAX_DEPTH = 20
"""Brackets and functions within each other; deeper LaTeX stands for no number."""
MAX_EVALUATED = 10_000
"""SymPy works out binomials and the degree of roots itself: of numbers up to this one, so that none takes long."""
SHORT_CHARS = 80
TIME_LIMIT_S = 0.5
"""LaTeX that is not short and takes longer stands for no number."""
_PLAIN = re.compile(r"-?[0-9]{1,15}")
_NAMES = {
    **{name: getattr(math, name) for name in ("pi", "sqrt", "exp", "log", "floor", "gamma")},
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    **{name: getattr(math, name) for name in ("sinh", "cosh", "tanh", "asinh", "acosh", "atanh")},
    "factorial": factorial,
}
"""What SymPy's text of a number can hold and Python's math module knows."""

_CLOSING = {
    **{"(": ")", "{": "}", "[": "]", r"\{": r"\}"},
    **{r"\lbrace": r"\rbrace", r"\lbrack": r"\rbrack", r"\lgroup": r"\rgroup"},
    **{r"\lfloor": r"\rfloor", r"\llcorner": r"\lrcorner"},
}
_FLOORS = (r"\lfloor", r"\llcorner")
_SIZED = {r"\left": r"\right", r"\mleft": r"\mright"}
_TIMES = ("*", r"\times", r"\cdot")
_DIVIDED = ("/", ":", r"\over", r"\div")
_TURNABLE = {rf"\{name}": name for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
"""Functions whose power -1 is their inverse."""
_INVERSE = {
    **{rf"\arc{name}": f"a{name}" for name in _TURNABLE.values()},
    **{rf"\ar{name}": f"a{name}" for name in ("sinh", "cosh", "tanh")},
}
_FUNCTIONS = {**_TURNABLE, **_INVERSE, r"\floor": "floor"}
"""SymPy's names, which are also those of Python's math."""
_BINOMIALS = (r"\binom", r"\dbinom", r"\tbinom")
_CALLS = (*_FUNCTIONS, r"\log", r"\ln", r"\exp", r"\sqrt", "e")
"""What ends another function's bare argument: \\sin 2\\cos 3 is a product."""
_WORDS = (
    *("arsinh", "arcsinh", "arcosh", "arccosh", "artanh", "arctanh", "gcd", "lcm", "floor", "ceil"),
    *("eye", "zeros", "ones", "cols", "rows", "diag", "norm", "rank", "tr", "rref", "svd", "eig"),
    *("hstack", "vstack", "orth", "nullspace", "matrix", "pmatrix", "bmatrix", "vmatrix"),
)
"""Names that count only inside \\operatorname or \\begin; words that begin with one of them act alike."""
_ENDS = (
    *(")", "}", "]", ".", "_", "^", "&", "<->", "<=>", r"\\", r"\choose", r"\}", r"\rbrace"),
    *(r"\rbrack", r"\rgroup", r"\rfloor", r"\lrcorner", r"\rceil", r"\urcorner", r"\rvert"),
    *(r"\right", r"\mright", r"\to", r"\rightarrow", r"\longrightarrow", r"\leftrightarrow"),
    *(r"\xrightarrow", *(rf"\end{{{name}}}" for name in _WORDS[-4:]), *_WORDS),
)
"""What may follow a number that is read."""
_BETWEEN = frozenset((*_ENDS, *_TIMES, *_DIVIDED, "+", "-", ",", ";", ""))
"""What no factor begins with."""
_KNOWN = sorted(
    {
        *(*_ENDS, *_TIMES, *_DIVIDED, *_CALLS, *_BINOMIALS, *_CLOSING, *_SIZED),
        *(r"\frac", r"\pi", "+", "-", "!", "'", ",", ";"),
    },
    key=len,
    reverse=True,
)
_NUMBER = r"[0-9]*(?:,[0-9]{3})*\.[0-9]+|[0-9]+(?:,[0-9]{3})*"
_TOKEN = re.compile(
    rf"(?P<number>(?:{_NUMBER})(?:\\%)?)|{'|'.join(map(re.escape, _KNOWN))}|[^ \t\r\n]"
)
_FALLING_FACTORIAL = re.compile(r"\(([a-zA-Z0-9+\-*/\\ ]+?)\)_{([a-zA-Z0-9+\-*/\\ ]+?)}")
_TO_BLANKS = re.compile(r"\\displaystyle|\\q?quad|~|\\,|\$")


@functools.lru_cache(maxsize=8192)
def rounded_number(latex: str) -> int | float | None:
    r"""Return the number that LaTeX stands for, rounded to two decimals; None where it stands for none.

    Whole numbers stay int, as the scorer tells (3,4) and (3,4.0) apart.

    Args:
        latex: in lower case.

    Example:
        >>> rounded_number(r"\frac{25\pi}{2}"), rounded_number("34,426"), rounded_number("5 triangles")
        (39.27, 34426, 5)
        >>> [rounded_number(latex) for latex in ("60 cm", r"\frac12", "x^2", "9^{9^{9}}", "1/0")]
        [None, None, None, None, None]
    """
    if _PLAIN.fullmatch(latex):
        return int(latex)
    if len(latex) > MAX_CHARS:
        return None
    try:
        if len(latex) <= SHORT_CHARS:
            return round(arithmetic(str(read_latex(latex)), _NAMES), 2)
        return round(within(TIME_LIMIT_S, lambda: arithmetic(str(read_latex(latex)), _NAMES)), 2)
    except (ValueError, TypeError, ArithmeticError, TimeoutError):  # no number, or a refusal
        return None
    except RecursionError:  # a power of a power of a power ...
        return None


def read_latex(latex: str) -> sympy.Expr:
    r"""Return the unevaluated tree of a number, as latex2sympy2 1.9.1 builds it.

    Args:
        latex: a short expression in lower case.

    Raises:
        NotANumber: it holds anything but numbers, or breaks the grammar.

    Example:
        >>> read_latex(r"5\frac{\pi}{2} trees"), read_latex("(101)_{2}"), read_latex(r"-\sin^{-1} 1")
        (5*pi/2, factorial(101)/factorial(-2 + 101), -asin(1))
    """
    return _Reader(latex).whole()


def added(left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    """Return an unevaluated sum; sums in it are made part of it."""
    terms = [term for side in (left, right) for term in (side.args if side.is_Add else [side])]
    return sympy.Add(*terms, evaluate=False)


def multiplied(left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    """Return an unevaluated product; products in it are made part of it."""
    factors = [
        factor for side in (left, right) for factor in (side.args if side.is_Mul else [side])
    ]
    return sympy.Mul(*factors, evaluate=False)


def divided(left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    """Return an unevaluated quotient."""
    return sympy.Mul(left, sympy.Pow(right, -1, evaluate=False), evaluate=False)


def negated(number: sympy.Expr) -> sympy.Expr:
    """Return a number with its sign changed, a product with -1 of anything else."""
    return -number if number.is_Number else multiplied(sympy.S.NegativeOne, number)


class _Reader:
    """Reads one piece of LaTeX from left to right, a method per rule of the grammar; any of them may raise NotANumber."""

    def __init__(self, latex: str) -> None:
        text = latex.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
        text = _FALLING_FACTORIAL.sub(r"\\frac{(\1)!}{((\1)-(\2))!}", text)
        self._tokens = [match[0] for match in _TOKEN.finditer(_TO_BLANKS.sub(" ", text))][::-1]
        self._depth = 0

    def whole(self) -> sympy.Expr:
        """Read a number, and make sure that what follows may follow."""
        tree = self._sum()
        if self._next and self._next not in _ENDS:
            raise NotANumber
        return tree

    @property
    def _next(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def _take(self, wanted: str = "") -> str:
        """Move on behind the next token, which must be the one that is wanted, if one is."""
        if not self._tokens or (wanted and self._next != wanted):
            raise NotANumber
        return self._tokens.pop()

    def _sum(self) -> sympy.Expr:
        tree = self._product()
        while self._next in ("+", "-"):
            minus = self._take() == "-"
            term = self._product()
            tree = added(tree, negated(term) if minus else term)
        return tree

    def _product(self, bare_argument: bool = False) -> sympy.Expr:
        tree = self._signed(bare_argument)
        while self._next in _TIMES or self._next in _DIVIDED:
            join = multiplied if self._take() in _TIMES else divided
            tree = join(tree, self._signed(bare_argument))
        return tree

    def _signed(self, bare_argument: bool) -> sympy.Expr:
        signs = []
        while self._next in ("+", "-"):
            signs.append(self._take())
        factors = [self._factor()]
        while self._next not in _BETWEEN and not (bare_argument and self._next in _CALLS):
            factors.append(self._factor())
        tree = functools.reduce(lambda behind, factor: multiplied(factor, behind), factors[::-1])
        for _ in range(signs.count("-")):
            tree = negated(tree)
        return tree

    def _factor(self) -> sympy.Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotANumber
        tree = self._atom_or_group()
        self._depth -= 1
        while self._next == "^":
            self._take()
            tree = sympy.Pow(tree, self._script(), evaluate=False)
            if self._next == "_":  # read and forgotten
                self._take()
                self._script()
        while self._next in ("!", "'"):
            tree = sympy.factorial(tree, evaluate=False) if self._take() == "!" else tree
        return tree

    def _atom_or_group(self) -> sympy.Expr:
        token = self._take()
        if token in _CLOSING or token in _SIZED:
            return self._group(token)
        if token == r"\frac":
            return divided(self._braced(), self._braced())
        if token in _BINOMIALS:
            return _binomial(self._braced(), self._braced())
        return self._call(token) if token in _CALLS else _atom(token)

    def _group(self, opening: str) -> sympy.Expr:
        """Read what stands in brackets, from behind the opening one or the command that sizes it."""
        bracket = self._take() if opening in _SIZED else opening
        tree = self._sum()
        if opening == "{" and self._next == r"\choose":
            self._take()
            tree = _binomial(tree, self._sum())
        if opening in _SIZED:
            self._take(_SIZED[opening])
        if bracket not in _CLOSING:
            raise NotANumber
        self._take(_CLOSING[bracket])
        return sympy.floor(tree, evaluate=False) if bracket in _FLOORS else tree

    def _braced(self) -> sympy.Expr:
        return self._group(self._take("{"))

    def _script(self) -> sympy.Expr:
        """Read what stands behind ^ or _: braces or one number."""
        return self._braced() if self._next == "{" else _atom(self._take())

    def _call(self, name: str) -> sympy.Expr:
        """Read a function's arguments, from behind its name."""
        if name == r"\sqrt":
            return self._root()
        if name == "e":
            _, exponent = self._scripts("^")
            return _exponential(sympy.S.One if exponent is None else exponent)
        base, exponent = self._scripts()
        argument = self._argument()
        if name in _TURNABLE and exponent == -1:
            name, exponent = rf"\arc{_TURNABLE[name]}", None
        if name == r"\exp":
            tree = _exponential(argument)
        elif name in _FUNCTIONS:
            tree = getattr(sympy, _FUNCTIONS[name])(argument, evaluate=False)
        else:
            default = 10 if name == r"\log" else sympy.E
            tree = sympy.log(argument, default if base is None else base, evaluate=False)
        return sympy.Pow(tree, exponent, evaluate=False) if exponent else tree

    def _root(self) -> sympy.Expr:
        degree = self._group(self._take("[")) if self._next == "[" else sympy.Integer(2)
        return sympy.Pow(self._braced(), 1 / _limited(degree), evaluate=False)

    def _scripts(self, places: str = "_^") -> tuple[sympy.Expr | None, sympy.Expr | None]:
        """Read a function's subscript and superscript, in either order, as far as they are there."""
        found: dict[str, sympy.Expr] = {}
        while self._next and self._next in places and self._next not in found:
            place = self._take()
            found[place] = self._script()
        return found.get("_"), found.get("^")

    def _argument(self) -> sympy.Expr:
        """Read a function's argument: in round brackets, or bare up to the next sum or function."""
        if self._next == "(" or (self._next in _SIZED and self._tokens[-2:-1] == ["("]):
            return self._group(self._take())
        return self._product(bare_argument=True)


def _atom(token: str) -> sympy.Expr:
    """Return the number that one token stands for; raises NotANumber where it stands for none."""
    if token == r"\pi":
        return sympy.pi
    if not _TOKEN.fullmatch(token)["number"]:
        raise NotANumber
    digits = token.replace(",", "")
    percent = digits.endswith("%")
    return sympy.Rational(digits.removesuffix(r"\%")) / (100 if percent else 1)


def _limited(tree: sympy.Expr) -> sympy.Expr:
    """Return a tree that SymPy may compute with; raises NotANumber where its number is large, or none."""
    number = arithmetic(str(tree), _NAMES)
    if not isinstance(number, int | float) or not abs(number) <= MAX_EVALUATED:
        raise NotANumber
    return tree


def _binomial(upper: sympy.Expr, lower: sympy.Expr) -> sympy.Expr:
    """Return a binomial coefficient, of whole numbers only."""
    numbers = [arithmetic(str(_limited(tree)), _NAMES) for tree in (upper, lower)]
    if not all(isinstance(number, int) for number in numbers):
        raise NotANumber
    return sympy.binomial(*numbers)


def _exponential(exponent: sympy.Expr) -> sympy.Expr:
    """Return e to a power; of e^0 and e^1 SymPy makes 1 and "E", which Python does not know."""
    return sympy.exp(exponent, evaluate=exponent.is_Integer)
