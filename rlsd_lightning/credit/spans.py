"""Which tokens of a completion are its thought, found in its text and not in its token ids.

A tokenizer merges a tag with what stands beside it, and differently each time: the ids of "<thought>" alone do not
occur where "<thought>" is followed by a line break. RLSD's released code (arXiv:2604.03128) looks for those ids, so that
such completions count as having no thought. Characters do not have that problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def span_mask(
    pieces: Sequence[str], opening: str = "<thought>", closing: str = "</thought>"
) -> list[bool]:
    r"""Say of each token whether it belongs to the text between an opening and a closing tag.

    A token belongs if at least one of its characters lies strictly between the tags: one that is part of a tag and of
    the thought at once does, one that is part of a tag only does not. A token without a character of its own (the first
    bytes of one) goes where that character goes, which the next piece begins with.

    Several spans all count. One that is never closed, as in a truncated completion, runs to the end. Without an
    opening tag there is no span and nothing belongs, even if a closing tag stands there: under `thought_only` such a
    completion keeps its advantage on every token.

    Args:
        pieces: the tokens' texts, which join to the completion's; see records.token_pieces. [T]
        opening: the tag before a span, as it is spelt.
        closing: the tag after it.

    Returns:
        True = the token belongs to a span. [T]

    Raises:
        ValueError: if a tag is empty or both are the same.

    Example:
        >>> span_mask(["<", "thought", ">\n", "3", " <", " 4", ".</", "thought", ">\n\n", "Yes"])
        [False, False, True, True, True, True, True, False, False, False]
    """
    if not opening or not closing or opening == closing:
        raise ValueError(
            f"span_mask: opening is {opening!r} and closing {closing!r}, need two different tags that are not empty. "
            "Give the tags that the prompt asks for, such as <thought> and </thought>."
        )
    text = "".join(pieces)
    inside = [False] * (len(text) + 1)  # One more, for a piece without characters at the end.
    for start, stop in _spans(text, opening, closing):
        inside[start:stop] = [True] * (stop - start)
    mask, start = [], 0
    for piece in pieces:
        mask.append(any(inside[start : start + max(1, len(piece))]))
        start += len(piece)
    return mask


def _spans(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Yield where each span starts and stops; an open one stops behind the end of the text."""
    found = text.find(opening)
    while found >= 0:
        start = found + len(opening)
        stop = text.find(closing, start)
        if stop < 0:
            yield start, len(text) + 1
            return
        yield start, stop
        found = text.find(opening, stop + len(closing))
