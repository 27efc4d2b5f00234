"""Documents by their likeness: tags shared and length, worked out by hand."""

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.markup import Markup, likeness, tags_of

GOLD = '<svg width="4"><g><rect/></g></svg>'  # tags svg, g, rect; 34 characters without the blank


def judge(document, language="svg", gold=GOLD, **settings):
    problem = Problem(id="1", prompt="", answer=gold)
    return Markup(language=language, **settings).verify(problem, f"<answer>{document}</answer>")


def test_the_gold_document_is_paid_in_full():
    assert judge(GOLD).reward == 1.0
    assert judge(GOLD).correct
    assert judge(f"```svg\n{GOLD}\n```").reward == 1.0


def test_shared_tags_and_length_are_weighed():
    """svg and g of three tags; 18 of 34 characters: 0.7 * 2 / 3 + 0.3 * 18 / 34."""
    verdict = judge("<svg> <g></g></svg>")
    assert verdict.reward == pytest.approx(0.7 * 2 / 3 + 0.3 * 18 / 34, abs=1e-12)
    assert not verdict.correct
    assert judge("<svg> <g></g></svg>", correct_from=0.6).correct


def test_tags_are_names_whatever_attributes_they_have():
    assert tags_of('<svg\nwidth="4"><CIRCLE r="2"/>a < b</svg>') == {"svg", "circle"}


def test_a_longer_document_gains_nothing_by_its_length():
    assert likeness(GOLD + " " * 100, GOLD) == 1.0
    assert likeness(GOLD + "x" * 35, GOLD) < likeness(GOLD, GOLD)


@pytest.mark.parametrize("document", ["", "a drawing", "<svg><g/>", "<g></g>"])
def test_what_is_no_closed_svg_earns_nothing(document):
    assert judge(document).reward == 0.0
    assert judge(document).valid


def test_html_needs_a_tag_only():
    assert judge("<p>hello</p>", "html", "<p>hello</p>").reward == 1.0
    assert judge("hello", "html", "<p>hello</p>").reward == 0.0


def test_a_gold_answer_without_tags_cannot_be_judged():
    assert not judge("<p></p>", "html", "hello").valid


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"language": "latex"}, "language is 'latex'"), ({"language": "svg", "correct_from": 0}, "0")],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Markup(**settings)
