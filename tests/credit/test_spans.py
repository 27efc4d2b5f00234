import random

import pytest

from rlsd_lightning.credit.spans import span_mask
from rlsd_lightning.records import token_pieces

# A row per case: pieces, and for each of them 1 = in the span. The merges are those of Qwen's tokenizer.
CASES = {
    "tags alone": (["<thought>", "a", "b", "</thought>", "c"], "01100"),
    "a line break merged into the opening tag": (
        ["<", "thought", ">\n", "a", "</", "thought", ">"],
        "0011000",
    ),
    "line breaks merged into the closing tag": (
        ["<", "thought", ">", "a", "</", "thought", ">\n\n", "<", "answer", ">"],
        "0001000000",
    ),
    "a full stop merged into the closing tag": (
        ["<", "thought", ">", "a", ".</", "thought", ">\n", "b"],
        "00011000",
    ),
    "an opening tag in many tokens": (
        ["<", "th", "ought", ">\n", "a", "</th", "ought>"],
        "0001100",
    ),
    "both tags in one token with the thought": (["x", "<thought>a</thought>", "b"], "010"),
    "nothing between the tags": (["<", "thought", "></", "thought", ">", "a"], "000000"),
    "text before the opening tag": (["So", ":", "<thought>", "a", "</thought>"], "00010"),
    "the end of one tag and the beginning of the next": (
        ["<thought>", "a", "</thought><thought>", "b", "</thought>"],
        "01010",
    ),
    "several spans": (
        ["<thought>", "a", "</thought>", "b", "<thought>", "c", "</thought>", "d"],
        "01000100",
    ),
    "a span that is cut off": (["<", "thought", ">\n", "a", "b"], "00111"),
    "a span that is cut off inside its closing tag": (["<thought>", "a", "</", "tho"], "0111"),
    "an opening tag at the very end": (["a", "<", "thought", ">"], "0000"),
    "no tag at all": (["a", "b"], "00"),
    "a closing tag only": (["a", "</", "thought", ">", "b"], "00000"),
    "an opening tag that is not whole": (["<", "thought", "a", "</thought>"], "0000"),
    "an opening tag inside a span": (
        ["<thought>", "a", "<thought>", "b", "</thought>", "c", "</thought>"],
        "0111000",
    ),
    "another tag of the same beginning": (["<thoughts>", "a", "</thoughts>"], "000"),
    "a less-than sign in the thought": (["<thought>", "3", " <", " 4", "</thought>"], "01110"),
    "no token": ([], ""),
}


@pytest.mark.parametrize(("pieces", "expected"), CASES.values(), ids=CASES)
def test_a_token_belongs_if_one_of_its_characters_lies_between_the_tags(pieces, expected):
    assert span_mask(pieces) == [digit == "1" for digit in expected]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["<thought>", "", "\u00d7", "</thought>"], "0110"),
        (["<thought>", "a", "", "\u00d7", "</thought>"], "01110"),
        (["<thought>", "a", "</thought>", "", "", "\u20ac"], "010000"),
        (["", "\u00d7", "<thought>", "a"], "0001"),
        (["<thought>", "a", ""], "011"),
        (["<thought>", "a", "</thought>", ""], "0100"),
    ],
)
def test_the_first_bytes_of_a_character_go_where_the_character_goes(pieces, expected):
    assert span_mask(pieces) == [digit == "1" for digit in expected]


def test_bytes_as_tokens():
    """The pieces as token_pieces makes them, one token per byte: 2 bytes of the sign inside, 3 outside."""
    raw = "<thought>\u00d7</thought>\u20ac".encode()
    pieces = token_pieces(lambda ids: bytes(ids).decode(errors="replace"), list(raw))
    mask = span_mask(pieces)
    assert [place for place, inside in enumerate(mask) if inside] == [9, 10]
    assert len(mask) == len(raw)


def test_every_way_to_cut_a_text_gives_the_tokens_that_touch_the_thought():
    text = "x<thought>\nab.</thought>\n\n<thought>c</thought>y<thought>de"
    inside = {
        place for start, stop in ((10, 14), (35, 36), (56, 58)) for place in range(start, stop)
    }
    assert "".join(text[place] for place in sorted(inside)) == "\nab.cde"
    draw = random.Random(0)
    for _ in range(300):
        cuts = sorted(draw.sample(range(1, len(text)), draw.randrange(len(text))))
        bounds = list(zip([0, *cuts], [*cuts, len(text)], strict=True))
        found = span_mask([text[start:stop] for start, stop in bounds])
        assert found == [bool(inside & set(range(start, stop))) for start, stop in bounds]


def test_other_tags_can_be_named():
    assert span_mask(["<think>", "a", "</think>"], "<think>", "</think>") == [False, True, False]
    assert span_mask(["<think>", "a", "</think>"]) == [False] * 3


@pytest.mark.parametrize(("opening", "closing"), [("", "</a>"), ("<a>", ""), ("|", "|")])
def test_tags_that_mark_nothing_are_refused(opening, closing):
    with pytest.raises(ValueError, match="two different tags"):
        span_mask(["a"], opening, closing)
