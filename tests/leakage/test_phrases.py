"""Which words give a leak away, and which only look like it."""

import time

import pytest

from rlsd_lightning.leakage.phrases import appeals_to_reference, compile_phrases

PHRASES = compile_phrases(["reference solution", "answer key", "\u53c2\u8003\u7b54\u6848"])


@pytest.mark.parametrize(
    ("response", "leaks"),
    [
        ("By the reference solution it is 5.", True),
        ("The Reference\n Solution says 5.", True),  # case and white space
        ("Reference solutions say 5.", True),  # the beginning of a word is enough
        ("My preference solution is 5.", False),  # the middle of a word is not
        ("The answer: key 5", False),
        ("The solution refers to 5.", False),
        ("\u6839\u636e\u53c2\u8003\u7b54\u6848\uff0c\u662f5", True),  # a script without spaces
        ("", False),
    ],
)
def test_a_phrase_is_found_at_the_start_of_a_word_however_it_is_written(response, leaks):
    assert appeals_to_reference(response, "What is 2 + 3?", PHRASES) is leaks


def test_what_the_question_says_itself_is_quoted_and_not_leaked():
    question = "Is the answer key right: 5?"
    assert not appeals_to_reference("The Answer  Key is right.", question, PHRASES)
    assert appeals_to_reference("The reference solution agrees.", question, PHRASES)


def test_signs_of_regular_expressions_are_plain_signs():
    assert not compile_phrases(["see (a.b)"]).search("see axb")
    assert compile_phrases(["see (a.b)"]).search("See (A.B)!")


def test_time_is_linear_in_the_text():
    hostile = ("reference " + " " * 50) * 4000 + "a" * 200_000
    start = time.process_time()
    assert not PHRASES.search(hostile)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("phrases", [[], [""], ["  "], ["fine", "..."]])
def test_phrases_that_find_nothing_or_everything_are_refused(phrases):
    with pytest.raises(ValueError, match="leak_phrases"):
        compile_phrases(phrases)
