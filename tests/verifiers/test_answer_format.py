"""The scanner against the regular expressions it stands for, on short texts, where those are quick."""

import itertools
import re

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.answer_format import AnswerFormat, without_blanks

PROBLEM = Problem(id="1", prompt="")


def normalised(text):
    return re.sub(r"\s*(<|>|/)\s*", r"\1", text)


def rlsd(text):
    return re.fullmatch(r"<thought>.*</thought>.*<answer>.*</answer>", normalised(text), re.DOTALL)


def swift(text):
    return re.match(r"<thought>.*?</thought>\s*<answer>.*?</answer>(?![\s\S])", text, re.DOTALL)


def thought_only(text):
    return re.match(
        r"<thought>(?!.*<thought>)(?!.*</thought>.*</thought>).*?</thought>.*$", text, re.DOTALL
    )


VERIFIERS = {
    rlsd: AnswerFormat(),
    swift: AnswerFormat(ignore_blanks=False, between="blanks"),
    thought_only: AnswerFormat(
        sections=["thought"], once=True, ignore_blanks=False, after="anything"
    ),
}
PIECES = ["<thought>", "</thought>", "<answer>", "</answer>", " ", "a", "< "]


@pytest.mark.parametrize("reference", VERIFIERS, ids=lambda function: function.__name__)
def test_scanner_and_expression_agree(reference):
    texts = {"".join(pieces) for n in range(7) for pieces in itertools.combinations(PIECES * 2, n)}
    texts |= {"".join(pieces) for n in range(6) for pieces in itertools.product(PIECES, repeat=n)}
    found = 0
    for text in texts:
        wanted = bool(reference(text))
        found += wanted
        assert VERIFIERS[reference].verify(PROBLEM, text).correct is wanted, text
    assert found > 20


@pytest.mark.parametrize(
    "text", ["", " ", " a < b / c > d ", "<>", "/ /", "\n<\t>\u00a0/\u2003x", "a  b"]
)
def test_blanks_go_as_the_expression_takes_them(text):
    assert without_blanks(text) == normalised(text)


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        ("x<thought></thought><answer></answer>", "<thought> is not at the beginning"),
        ("<thought><answer>5</answer>", "no </thought> where <thought> could end"),
        ("<thought></thought>5", "no <answer>"),
        ("<thought></thought><answer>5", "no </answer> where <answer> could end"),
        ("<thought></thought><answer>5</answer>.", "no </answer> where <answer> could end"),
    ],
)
def test_the_reason_names_what_is_missing(response, fault):
    verdict = AnswerFormat().verify(PROBLEM, response)
    assert verdict.reward == 0
    assert verdict.reason == f"not in form: {fault}"


def test_tags_of_ones_own_and_boxes():
    verifier = AnswerFormat(sections=["think", "\\boxed"], after="anything")
    assert verifier.verify(PROBLEM, "<think>t</think> so \\boxed{5}.").correct
    assert not verifier.verify(PROBLEM, "<think>t \\boxed{5}</think> so 5").correct
    assert AnswerFormat(sections=["answer"]).verify(PROBLEM, "<answer>5</answer>").correct


def test_arguments_are_checked():
    for sections in ([], "answer", ["an answer"], ["<answer>"], [""]):
        with pytest.raises(ValueError, match="sections is"):
            AnswerFormat(sections=sections)
    with pytest.raises(ValueError, match="between is 'nothing'"):
        AnswerFormat(between="nothing")
    with pytest.raises(ValueError, match="after is 'blanks'"):
        AnswerFormat(after="blanks")
