"""Which tokens carry no content, and how much credit they get."""

from types import SimpleNamespace

import pytest
import torch

from rlsd_lightning.leakage.style import compile_style, style_mask, style_means
from rlsd_lightning.records import decoder
from tests.helpers.rollouts import rollout, text_prompt

PATTERNS = compile_style([r"[.,](?!\d)", r"\bso\b", r"</?\w+>"])


@pytest.mark.parametrize(
    ("pieces", "styled"),
    [
        (["3", ".", "14"], [False, False, False]),  # the point of a number is content
        (["3", ".", " So"], [False, True, True]),
        (["so", "lution"], [False, False]),  # part of a word
        (["<", "ans", "wer", ">\n", "5", "</", "answer>"], [True] * 4 + [False] + [True] * 2),
        (["answer"], [False]),  # the word is no tag
        ([" ", "\n\n", "x"], [True, True, False]),
        (["", "\u00e9"], [False, False]),  # half a character
        ([".5"], [False]),
        ([">."], [False]),  # half a tag
        ([], []),
    ],
)
def test_a_style_token_lies_wholly_inside_what_a_pattern_finds(pieces, styled):
    assert style_mask(pieces, PATTERNS) == styled


def record(credit, token_ids, counted):
    prompt = text_prompt("p", 2)
    return SimpleNamespace(
        rollouts=tuple(rollout(prompt, ids) for ids in token_ids),
        completion_mask=torch.tensor(counted),
        credit=torch.tensor(credit),
    )


def test_shares_are_over_all_tokens_with_credit_of_all_micro_batches():
    decode = decoder(SimpleNamespace(decode=lambda ids, **_: "".join(map(chr, ids))))
    # "5,": credit 3 and -1; "7" and padding; the completion "8," has no credit and does not count.
    first = record([[3.0, -1.0], [4.0, 9.0]], [[53, 44], [55]], [[True, True], [True, False]])
    second = record([[0.0, 0.0]], [[56, 44]], [[True, True]])
    found = style_means([first, second], PATTERNS, decode)
    assert float(found["style_credit_fraction"]) == pytest.approx(1 / 8)
    assert float(found["style_token_fraction"]) == pytest.approx(1 / 3)
    assert style_means([second], PATTERNS, decode) == {}


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"style_patterns has '\(so'"):
        compile_style(["(so"])
