r"""MATH-V's own rules (mathllm/MATH-V a1f5cc3a, evaluation/): how an answer is taken out of a response, and what equals what.

Their oddities are kept, as they are the benchmark: only one letter may stand in the box ("C 84" is wrong), \frac12 is
repaired only beside a root, \text{cm} leaves {cm}, "0.5" becomes \frac{1}{2}, and two numbers are equal if they are after
rounding to two decimals. Every step is a scan or a replacement, so that a megabyte takes no more than its length.
"""

from __future__ import annotations

from rlsd_lightning.evaluators.mathvision_latex import MAX_CHARS, rounded_number

LETTERS = "ABCDE"
_FLAGS = (
    "the final answer is",
    "the answer is",
    "the correct answer is",
    "the answer should be",
)
_REMOVED = (
    *("\\text", "\\mbox"),
    *(
        "\\left",
        "\\right",
        "^{\\circ}",
        "^\\circ",
        "{m}^3",
        "m^3",
        "{units}",
        "units",
        "{km}",
        "km",
    ),
)
"""What find_math_answer drops, in this order; bmatrix becomes pmatrix between the first two and the rest."""
_LAST_REMOVED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "$")


def official_answer(response: str) -> str:
    r"""Return the answer that the script reads in a response, in the form that it compares, in lower case.

    Example:
        >>> official_answer("Hence the answer is (C)."), official_answer(r"x = \boxed{\frac{8}{2}\text{ cm}}")
        ('c', '\\frac{8}{2}{cm}')
        >>> official_answer("<answer>B</answer>"), official_answer("(C) 84")
        ('<answer>b</answer>', 'c84')
    """
    text = _lone_letter(response.strip())
    behind_is = text.rsplit("is ", 1)[-1].rstrip(".")
    if _is_number(behind_is):
        text = behind_is
    if "oxed{" not in text:
        text = _behind_flags(text)
    elif text.count("oxed{") > 1:
        text = "\\boxed{" + text.rsplit("oxed{", 1)[-1]
    text = tidied(boxed_or_all(text.lower()))
    for opening, closing in ("()", "{}"):
        for letter in LETTERS.lower():
            text = text.replace(opening + letter + closing, letter)
    return text.rstrip(".").lstrip(":").strip()


def boxed_or_all(text: str) -> str:
    r"""Return what stands behind the last equals sign of the box, or of everything where there is none.

    The box goes to the last closing brace, and is cut at one that nothing has opened.

    Args:
        text: in lower case, with at most one box.

    Example:
        >>> boxed_or_all(r"so \boxed{x=\frac{1}{2}} cm."), boxed_or_all("a{}=b")
        ('\\frac{1}{2}', 'b')
    """
    text = text.replace("{}", "")
    start = text.find("oxed{")
    end = text.rfind("}")
    if 0 <= start < end:
        text = text[start + len("oxed{") : end]
    closing, opening = text.find("}"), text.find("{")
    if closing != -1 and (opening == -1 or closing < opening):
        text = text[:closing]
    return text.rsplit("=", 1)[-1].rsplit("\\approx", 1)[-1]


def tidied(answer: str) -> str:
    r"""Return an answer in the script's one way of writing: without blanks, dollars, degrees and some units.

    Example:
        >>> tidied(r"\dfrac{1}{2} \text{ km}"), tidied("7/3"), tidied(r"\frac12\sqrt3"), tidied(".5")
        ('\\frac{1}{2}', '\\frac{7}{3}', '\\frac{1}{2}\\sqrt{3}', '\\frac{1}{2}')
    """
    text = answer.replace(" ", "").replace("\\,", "").replace("\u221e", "\\infty")
    text = text.replace("+\\infty", "\\infty").replace("\\\\", "\\").replace("\n", "")
    for removed in _REMOVED:
        text = text.replace(removed, "")
        if removed == "\\mbox":
            text = text.replace("bmatrix", "pmatrix")
    text = text.replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for removed in _LAST_REMOVED:
        text = text.replace(removed, "")
    text = text.split("\\text{ ", 1)[0].replace("\\%", "").replace("{.", "{0.")
    text = "0" + text if text.startswith(".") else text
    text = with_braces(text) if "sqrt" in text else text
    return as_fraction("\\frac{1}{2}" if text == "0.5" else text)


def with_braces(text: str) -> str:
    r"""Return a formula whose roots and fractions have braces around what is one character long.

    Example:
        >>> with_braces(r"\sqrt3+\frac12+\frac1{2}")
        '\\sqrt{3}+\\frac{1}{2}+\\frac{1}{2}'
    """
    before, *roots = text.split("\\sqrt")
    for root in roots:
        before += "\\sqrt" + (root if root[:1] in ("{", "") else f"{{{root[0]}}}{root[1:]}")
    result, *fractions = before.split("\\frac")
    for fraction in fractions:
        if fraction[:1] == "{":
            result += "\\frac" + fraction
        elif len(fraction) < 2:
            return before
        else:
            lower = fraction[1] if fraction[1] == "{" else f"{{{fraction[1]}}}"
            result += f"\\frac{{{fraction[0]}}}{lower}{fraction[2:]}"
    return result


def as_fraction(text: str) -> str:
    r"""Return a/b as \frac{a}{b}, for whole numbers without leading zeros; anything else as it is.

    Example:
        >>> as_fraction("-7/3"), as_fraction("07/3")
        ('\\frac{-7}{3}', '07/3')
    """
    if text.count("/") != 1:
        return text
    try:
        upper, lower = (int(part) for part in text.split("/"))
    except ValueError:
        return text
    return f"\\frac{{{upper}}}{{{lower}}}" if text == f"{upper}/{lower}" else text


def is_equal(gold: str, answer: str) -> bool:
    r"""Whether two answers are the same text but for case, the same tuple, or the same number to two decimals.

    Example:
        >>> is_equal(r"25\pi", "78.54"), is_equal("1:2", "0.5"), is_equal("(3,-4)", r"(\frac{6}{2},-4)")
        (True, True, False)
        >>> is_equal("", ""), is_equal("60", "60 cm")
        (False, False)
    """
    gold, answer = gold.lower(), answer.lower()
    if not gold.replace(" ", "") or not answer.replace(" ", ""):
        return False
    if gold.strip() == answer.strip():
        return True
    gold, answer = worked_out_tuple(gold), worked_out_tuple(answer)
    if gold == answer:
        return True
    number = rounded_number(gold)
    return number is not None and number == rounded_number(answer)


def worked_out_tuple(text: str) -> str:
    r"""Return a tuple or list with its parts worked out to two decimals; anything else as it is.

    Example:
        >>> worked_out_tuple(r"(2^2,\frac{1}{3},-\infty)"), worked_out_tuple("(x,3)")
        ('(4,0.33,-\\infty)', '(x,3)')
    """
    if text[:1] + text[-1:] not in ("()", "[]") or "," not in text[1:-1] or len(text) > MAX_CHARS:
        return text
    parts = []
    for part in text[1:-1].split(","):
        if "infty" in part or part in ("a", "-a"):
            parts.append(part)
            continue
        number = rounded_number(part)
        if number is None:
            return text
        parts.append(str(number))
    return text[0] + ",".join(parts) + text[-1]


def _lone_letter(text: str) -> str:
    """Return the letter that a response ends or begins with, in one of five ways; else the response."""
    for letter in LETTERS:
        ends = text.endswith((f" {letter}.", f" ({letter})."))
        if ends or text.startswith((f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")):
            return letter
    return text


def _behind_flags(text: str) -> str:
    """Return what follows "the answer is" and the like, up to the end of its line or sentence."""
    for flag in _FLAGS:
        for spelling in (flag, flag.replace("the", "The")):
            found = spelling in text
            text = text.rsplit(spelling, 1)[-1].strip()
            text = text.split("\n", 1)[0].split(". ", 1)[0] if found else text
    return text


def _is_number(text: str) -> bool:
    """Whether Python's float() reads a text: also "nan", "1_000", and digits of other scripts."""
    try:
        float(text)
    except ValueError:
        return False
    return True
