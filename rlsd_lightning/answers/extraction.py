r"""Where the answer stands in a response, found in linear time and without a regular expression over the response.

The sources, tried in the order in which they are named:

    answer    what stands between <answer> and </answer>, upper or lower case; `which` of several
    boxed     what stands in the last \boxed{...} whose braces close
    response  the whole response, unless it is longer than an answer can be

An answer tag that is there but empty is an empty answer, not a reason to look further. A tag that never closes (a
response cut at its length limit) is no answer.
"""

from __future__ import annotations

from collections.abc import Sequence

SOURCES = ("answer", "boxed", "response")
MAX_WHOLE_RESPONSE_CHARS = 2_000
"""A longer response without tag or box holds an answer, but is none."""
MAX_BOXED_CHARS = 10_000
"""How far a box is followed in search of its end."""
_MAX_BOXES = 100
_LOWER_ASCII = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def extract_answer(
    response: str, which: str = "last", sources: Sequence[str] = ("answer", "boxed")
) -> str | None:
    r"""Return the answer that a response gives, without surrounding blanks; None where it gives none.

    Args:
        response: what the model wrote.
        which: of several answer tags, the first or the last.
        sources: where to look, in this order; see the top of this file.

    Example:
        >>> extract_answer("<answer>4</answer> No, <answer> 5 </answer>")
        '5'
        >>> extract_answer("<answer>4</answer> No, <answer>5</answer>", which="first")
        '4'
        >>> extract_answer(r"So it is \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
        >>> extract_answer("5") is None
        True
    """
    for source in sources:
        if source == "answer":
            found = between_tags(response, "answer", which)
        elif source == "boxed":
            found = last_boxed(response)
        else:
            found = response if len(response) <= MAX_WHOLE_RESPONSE_CHARS else None
        if found is not None:
            return found.strip()
    return None


def check_extraction(owner: str, which: str, sources: Sequence[str]) -> tuple[str, ...]:
    """Return the sources as a tuple once they and `which` are found to mean something.

    Args:
        owner: the verifier whose arguments these are, for the message.
        which: as for extract_answer.
        sources: as for extract_answer.

    Raises:
        ValueError: one of them means nothing.
    """
    if which not in ("first", "last"):
        raise ValueError(
            f"{owner}: which is {which!r}, but it must be first or last. Set one of them."
        )
    if isinstance(sources, str) or not sources or not set(sources) <= set(SOURCES):
        raise ValueError(
            f"{owner}: sources is {sources!r}, but it must be a list of some of {', '.join(SOURCES)}. "
            f"Name where answers stand, the likeliest first."
        )
    return tuple(sources)


def between_tags(text: str, name: str, which: str = "last") -> str | None:
    """Return what stands between a tag and the next closing tag; None where no such pair exists.

    Args:
        text: what to look through.
        name: of the tag, in lower case; found in any case.
        which: of several pairs, the first or the last.

    Example:
        >>> between_tags("<ANSWER>5</answer><answer>6", "answer")
        '5'
    """
    # Of other text, str.lower() does not keep every position.
    lower = text.lower() if text.isascii() else text.translate(_LOWER_ASCII)
    opening, closing = f"<{name}>", f"</{name}>"
    if which == "first":
        start = lower.find(opening)
    else:
        start = lower.rfind(opening, 0, max(lower.rfind(closing), 0))
    if start < 0:
        return None
    start += len(opening)
    end = lower.find(closing, start)
    return text[start:end] if end >= 0 else None


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last \boxed{...} whose braces close; None where there is none.

    Example:
        >>> last_boxed(r"\boxed{3}, but then \boxed{\{5\}} and \boxed{oops")
        '\\{5\\}'
    """
    end = len(text)
    for _ in range(_MAX_BOXES):
        start = text.rfind("\\boxed", 0, end)
        if start < 0:
            return None
        span = box_span(text, start)
        if span is not None:
            return text[slice(*span)]
        end = start
    return None


def box_span(text: str, start: int) -> tuple[int, int] | None:
    r"""Return where the content of a box begins and ends; None where its braces do not close.

    Args:
        text: what the box stands in.
        start: where its \boxed stands.

    Example:
        >>> box_span(r"\boxed {a}", 0)
        (8, 9)
    """
    opening = start + len("\\boxed")
    limit = min(len(text), opening + MAX_BOXED_CHARS)
    while opening < limit and text[opening].isspace():
        opening += 1
    closing = closing_brace(text, opening, limit)
    return (opening + 1, closing) if closing >= 0 else None


def closing_brace(text: str, opening: int, limit: int | None = None) -> int:
    r"""Return where the brace at `opening` closes; -1 where it does not, or where no brace stands.

    A brace behind a backslash is printed, not one of TeX's brackets, so it does not count.

    Args:
        text: what to look through.
        opening: where the brace stands.
        limit: where to give up.

    Example:
        >>> closing_brace(r"{a{\}}}", 0)
        6
    """
    limit = len(text) if limit is None else limit
    if opening >= limit or text[opening] != "{":
        return -1
    depth, index = 0, opening
    while index < limit:
        character = text[index]
        if character == "\\":
            index += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return -1


def fenced_block(text: str, which: str = "last") -> str | None:
    r"""Return what stands in a fenced code block, between a line that begins with ``` and the next one; None without.

    Args:
        text: what to look through.
        which: of several blocks, the first or the last that closes.

    Example:
        >>> fenced_block("Here:\n```json\n{}\n```\nDone.")
        '{}\n'
    """
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in text.splitlines(keepends=True):
        if not line.lstrip(" ").startswith("```"):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside = []
        else:
            blocks.append("".join(inside))
            inside = None
    if not blocks:
        return None
    return blocks[0 if which == "first" else -1]
