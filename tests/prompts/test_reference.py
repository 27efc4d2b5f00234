import pytest

from rlsd_lightning.prompts.reference import (
    Reference,
    count_tokens,
    cut_reference,
    cut_text,
    largest_fit,
)
from tests.helpers.tiny_processor import tiny_tokenizer

TEXT = "in the then an 12 = the\u00e9 \u4e2d\u6587 12 \U0001f600 end"


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def test_a_cut_is_a_beginning_within_the_budget_and_loses_at_most_a_character(tokenizer):
    size = count_tokens(TEXT, tokenizer)
    for budget in range(size + 2):
        cut = cut_text(TEXT, budget, tokenizer)
        assert TEXT.startswith(cut)
        assert count_tokens(cut, tokenizer) <= budget
        # The longest character has four bytes, so at most three tokens of the budget are left over.
        assert count_tokens(cut, tokenizer) >= min(budget, size) - 3
    assert cut_text(TEXT, size, tokenizer) == TEXT
    assert cut_text(TEXT, 0, tokenizer) == ""


def test_a_character_is_never_split(tokenizer):
    assert [cut_text("a\u4e2db", budget, tokenizer) for budget in range(6)] == [
        "",
        "a",
        "a",
        "a",
        "a\u4e2d",
        "a\u4e2db",
    ]


def test_the_closing_line_survives_a_cut_of_the_body(tokenizer):
    # "\n\nAnswer: 12" is 2 + 8 + 1 = 11 tokens: bytes, but "12" is one. Of 15, 4 are left for the body.
    reference = Reference("abcdefgh", "Answer: 12")
    assert cut_reference(reference, 15, tokenizer) == "abcd\n\nAnswer: 12"
    assert cut_reference(reference, 19, tokenizer) == reference.text


def test_a_budget_below_the_closing_line_cuts_the_whole(tokenizer):
    reference = Reference("abcdefgh", "Answer: 12")
    assert cut_reference(reference, 11, tokenizer) == "abcdefgh\n\nA"
    assert cut_reference(reference, 3, tokenizer) == "abc"
    assert cut_reference(reference, 0, tokenizer) == ""


def test_a_reference_without_body_is_its_closing_line(tokenizer):
    assert Reference("", "Answer: 12").text == "Answer: 12"
    assert cut_reference(Reference("", "Answer: 12"), 3, tokenizer) == "Ans"


def test_every_cut_reference_keeps_its_budget(tokenizer):
    for reference in (Reference(TEXT), Reference(TEXT, "Answer: \u4e2d")):
        for budget in range(count_tokens(reference.text, tokenizer)):
            assert count_tokens(cut_reference(reference, budget, tokenizer), tokenizer) <= budget


@pytest.mark.parametrize("guess", [-5, 0, 1, 36, 37, 38, 99, 500])
@pytest.mark.parametrize("largest", [0, 1, 37, 99])
def test_the_largest_fit_is_found_whatever_the_guess(guess, largest):
    asked = []
    assert largest_fit(lambda n: asked.append(n) or n <= largest, 100, guess) == largest
    assert all(0 < number < 100 for number in asked)  # 0 fits and 100 does not: no need to ask


def test_an_exact_guess_costs_two_questions():
    asked = []
    largest_fit(lambda number: asked.append(number) or number <= 37, 4096, 37)
    assert asked == [37, 38]
