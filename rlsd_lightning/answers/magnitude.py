r"""How large the numbers can grow that a LaTeX expression stands for, estimated without evaluating anything.

9^{9^{9}} is nine characters and 1.2 billion bits. Python computes such a number in one call that nothing interrupts, so
expressions are measured before a computer algebra system sees them. The estimate errs upwards: everything that stands
side by side is taken as if it were multiplied.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_BITS = 2.0**18
"""About 79,000 decimal digits: a few operations on such numbers take well under a second."""
_MAX_TOWER = 2
"""How many powers may stand in a power's exponent: e^{e^{e^{x}}} is the last. Beyond it even rounded values take for ever."""
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|\*\*|\\[A-Za-z]+|\\.|\S", re.ASCII | re.DOTALL)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\\!|\s)+(?=\d{3}(?!\d))", re.ASCII)
_CLOSING = {"{": "}", "(": ")", "[": "]", "\\{": "\\}"}
_BINOMIALS = ("\\binom", "\\dbinom", "\\tbinom")


@dataclass(frozen=True, slots=True)
class _Size:
    """Upper bounds on a part of an expression."""

    bits: float = 0.0
    """Bits to write it exactly, digits behind the point included; letters need none."""
    magnitude: float = 0.0
    """Binary logarithm of its size; 0 for letters."""
    symbolic: bool = False
    """Whether letters stand in it."""

    def times(self, other: _Size) -> _Size:
        """Bound a product, and with it any sum or quotient of whole numbers."""
        symbolic = self.symbolic or other.symbolic
        return _Size(self.bits + other.bits, self.magnitude + other.magnitude, symbolic)

    def power(self, exponent: _Size) -> _Size:
        """Bound a power; e^{-x^2} is never worked out, but x^{10^9} may become a polynomial of that degree."""
        times = _two_to(exponent.magnitude)
        if self.bits == 0:
            return _Size(exponent.bits + (0.0 if exponent.symbolic else times), 0.0, True)
        symbolic = self.symbolic or exponent.symbolic
        magnitude = self.magnitude * times if self.magnitude else 0.0  # 0 * inf is no number
        return _Size(exponent.bits + self.bits * times, magnitude, symbolic)

    def factorial(self) -> _Size:
        """Bound n! by n^n."""
        bits = _two_to(self.magnitude) * max(self.magnitude, 1.0)
        return _Size(bits, bits, self.symbolic)

    def choices(self) -> _Size:
        """Bound the binomial coefficients of n by 2^n."""
        bits = _two_to(self.magnitude)
        return _Size(bits, bits, self.symbolic)


_BEYOND_MEASURE = _Size(math.inf, math.inf)


def bits_bound(latex: str) -> float:
    r"""Return how many bits the largest number in the working out of an expression can have; inf if beyond measure.

    Args:
        latex: a short expression.

    Example:
        >>> bits_bound("2^{2024}") > MAX_BITS
        False
        >>> bits_bound("9^{9^{9}}") > MAX_BITS, bits_bound("99999999!") > MAX_BITS
        (True, True)
        >>> bits_bound(r"\binom{10^{9}}{5}") > MAX_BITS, bits_bound(r"\binom{52}{5}") > MAX_BITS
        (True, False)
    """
    tokens = _TOKEN.findall(_THOUSANDS.sub("", latex))
    return _Measure(tokens).group().bits


class _Measure:
    """Reads the tokens of one expression from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens[::-1]

    def group(self, closing: str = "", tower: int = 0) -> _Size:
        """Measure up to a closing bracket, or to the end.

        Args:
            closing: the bracket.
            tower: how many exponents the group stands in.
        """
        total = last = _Size()
        chooses = False
        while self._tokens:
            token = self._tokens.pop()
            if token == closing:
                break
            chooses = chooses or token == "\\choose"
            if token in ("^", "**"):
                last = last.power(self._exponent(tower + 1))
            elif token == "!":
                last = last.factorial()
            elif token in (
                ")",
                "]",
                "}",
                "|",
                "\\|",
            ):  # closes something unseen: perhaps all there is
                last = total
            else:
                last = self._atom(token, tower)
            total = total.times(last)
        return total.choices() if chooses else total

    def _exponent(self, tower: int) -> _Size:
        """Measure what stands behind ^, with the powers on it: 9^9^9 is 9^(9^9)."""
        if tower > _MAX_TOWER + 1:
            return _BEYOND_MEASURE
        size = self._atom(self._tokens.pop(), tower) if self._tokens else _Size()
        if self._tokens and self._tokens[-1] in ("^", "**"):
            self._tokens.pop()
            size = size.power(self._exponent(tower + 1))
        return size

    def _atom(self, token: str, tower: int) -> _Size:
        """Measure a number, a letter, a group, or a command with its arguments."""
        if token in _CLOSING:
            size = self.group(_CLOSING[token], tower)
            is_falling_factorial = token == "(" and self._tokens and self._tokens[-1] == "_"
            return size.factorial() if is_falling_factorial else size
        if token[0] in "0123456789" or (token[0] == "." and token != "."):
            return _number(token)
        if token[0] == "\\":
            return self._command(token, tower)
        return _Size(symbolic=token.isalpha())

    def _command(self, name: str, tower: int) -> _Size:
        size = largest = _Size()
        while self._tokens and self._tokens[-1] in ("{", "["):
            argument = self.group(_CLOSING[self._tokens.pop()], tower)
            size = size.times(argument)
            largest = max(largest, argument, key=lambda size: size.magnitude)
        return size.times(largest.choices()) if name in _BINOMIALS else size


def _number(digits: str) -> _Size:
    whole, _, fraction = digits.partition(".")
    magnitude = math.log2(int(whole[:300] or "0") + 1) + max(0, len(whole) - 300) * math.log2(10)
    return _Size(1 + magnitude + len(fraction) * math.log2(10), magnitude)


def _two_to(magnitude: float) -> float:
    return 2.0**magnitude if magnitude < 100 else math.inf
