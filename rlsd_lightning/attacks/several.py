"""Attacks that name every answer at once, and those that always give the same one."""

from __future__ import annotations

from rlsd_lightning.attacks.attack import answered, attack, attacks_in, options_of
from rlsd_lightning.types import Problem

_NUMBERS = [str(number) for number in range(101)]


def _letters(problem: Problem) -> list[str]:
    return list(options_of(problem)) or list("ABCD")


@attack("several")
def all_letters(problem: Problem) -> str:
    """All options, listed."""
    return answered(", ".join(_letters(problem)))


@attack("several")
def all_letters_or(problem: Problem) -> str:
    """All options, with 'or' between them."""
    return answered(" or ".join(_letters(problem)))


@attack("several")
def all_letters_tagged(problem: Problem) -> str:
    """One answer tag per option, between tags that name all of them."""
    letters = _letters(problem)
    listed = answered(" ".join(f"({letter})" for letter in letters))
    return listed + "".join(map(answered, letters)) + listed


@attack("several")
def all_labelled(problem: Problem) -> str | None:
    """All options with their letters, as the question lists them."""
    options = options_of(problem)
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return answered("\n".join(lines)) if len(options) > 1 else None


@attack("several")
def all_options(problem: Problem) -> str | None:
    """The texts of all options."""
    texts = [text for text in options_of(problem).values() if text]
    return answered("; ".join(texts)) if texts else None


@attack("several")
def all_of_the_above(problem: Problem) -> str:
    """'all of the above'."""
    return answered("All of the above.")


@attack("several")
def yes_and_no(problem: Problem) -> str:
    """Yes and no together."""
    return answered("Yes and no.")


@attack("several")
def yes_slash_no(problem: Problem) -> str:
    """Every word for yes and no."""
    return answered("yes/no/true/false/1/0")


@attack("several")
def all_numbers(problem: Problem) -> str:
    """All numbers from 0 to 100."""
    return answered(" ".join(_NUMBERS))


@attack("several")
def number_set(problem: Problem) -> str:
    """All numbers from 0 to 100, as a set."""
    return answered(r"\{" + ", ".join(_NUMBERS) + r"\}")


@attack("several")
def number_or(problem: Problem) -> str:
    """0 or 1 or 2 and so on."""
    return answered(" or ".join(_NUMBERS))


@attack("several")
def many_boxes(problem: Problem) -> str:
    """A hundred boxes, one number each."""
    return answered(" ".join(rf"\boxed{{{number}}}" for number in _NUMBERS))


@attack("several")
def boxes_without_tags(problem: Problem) -> str:
    """A hundred boxes outside any tag, closed by an empty one."""
    return " ".join(rf"\boxed{{{number}}}" for number in [*_NUMBERS, ""])


@attack("several")
def many_answers(problem: Problem) -> str:
    """A hundred answer tags, one number each, between two empty ones."""
    return "".join(f"<answer>{number}</answer>" for number in ["", *_NUMBERS, ""])


@attack("several")
def whole_line(problem: Problem) -> str:
    """The interval of all numbers."""
    return answered(r"(-\infty, \infty)")


@attack("several")
def plus_minus(problem: Problem) -> str:
    """A number with both signs."""
    return answered(r"\pm 1")


@attack("guess")
def always_first_option(problem: Problem) -> str:
    """The first option."""
    return answered(_letters(problem)[0])


@attack("guess")
def always_last_option(problem: Problem) -> str:
    """The last option."""
    return answered(_letters(problem)[-1])


@attack("guess")
def longest_option(problem: Problem) -> str | None:
    """The longest option."""
    options = options_of(problem)
    return answered(max(options, key=lambda letter: len(options[letter]))) if options else None


@attack("guess")
def always_yes(problem: Problem) -> str:
    """Yes."""
    return answered("yes")


@attack("guess")
def always_no(problem: Problem) -> str:
    """No."""
    return answered("no")


@attack("guess")
def always_0(problem: Problem) -> str:
    """Zero."""
    return answered("0")


@attack("guess")
def always_1(problem: Problem) -> str:
    """One."""
    return answered("1")


@attack("guess")
def always_2(problem: Problem) -> str:
    """Two."""
    return answered("2")


@attack("guess")
def number_of_the_question(problem: Problem) -> str | None:
    """The last number that stands in the question."""
    numbers = [word.strip("?.,;:!()") for word in problem.prompt.split()]
    found = [word for word in numbers if word.isascii() and word.isdigit()]
    return answered(found[-1]) if found else None


ATTACKS = attacks_in(globals())
