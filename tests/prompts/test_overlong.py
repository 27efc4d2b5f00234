import logging

import pytest

from rlsd_lightning.prompts import filter_overlong
from rlsd_lightning.types import Problem


@pytest.fixture
def problems(image_paths):
    """Three that differ in length only, and one with an image."""
    texts = ["a", "a" * 50, "a" * 10]
    plain = [
        Problem(
            id=f"p{i}", prompt=text, answer="1", reference="r" * 500, location=f"a.jsonl:{i + 1}"
        )
        for i, text in enumerate(texts)
    ]
    seen = Problem(
        id="p3", prompt="a", images=(image_paths["large"],), reference="r", location="a.jsonl:4"
    )
    return [*plain, seen]


def sizes(make_encoder, problems):
    return [len(make_encoder().student(problem).token_ids) for problem in problems]


def test_overlong_problems_are_left_out_and_listed(make_encoder, problems, caplog):
    lengths = sizes(make_encoder, problems)
    encoder = make_encoder(max_prompt_tokens=lengths[2])
    with caplog.at_level(logging.WARNING):
        kept, dropped = filter_overlong(problems, encoder, "filter")
    assert kept == [0, 2]
    assert dropped == [("a.jsonl:2", lengths[1]), ("a.jsonl:4", lengths[3])]
    assert "left out 2 of 4 problems" in caplog.text


def test_without_a_limit_all_are_kept(make_encoder, problems):
    assert filter_overlong(problems, make_encoder(), "error") == ([0, 1, 2, 3], [])


def test_overlong_problems_are_one_error_if_they_are_to_be(make_encoder, problems):
    encoder = make_encoder(max_prompt_tokens=sizes(make_encoder, problems)[2])
    with pytest.raises(ValueError, match=r"2 of 4 problems cannot be used") as caught:
        filter_overlong(problems, encoder, "error")
    assert "problem 'p1' (a.jsonl:2): the student's prompt has" in str(caught.value)
    assert "problem 'p3' (a.jsonl:4): the student's prompt has" in str(caught.value)


def test_nothing_left_is_an_error(make_encoder, problems):
    with pytest.raises(ValueError, match=r"4 of 4 problems cannot be used"):
        filter_overlong(problems, make_encoder(max_prompt_tokens=1), "filter")


def test_faults_of_the_text_are_errors_even_when_filtering(make_encoder, problems):
    bad = Problem(id="p9", prompt="the <|image_pad|>", location="a.jsonl:9")
    with pytest.raises(
        ValueError, match=r"1 of 5 .*\n  problem 'p9' \(a\.jsonl:9\): its text spells"
    ):
        filter_overlong([*problems, bad], make_encoder(), "filter")


def test_the_teachers_limit_counts_the_view_without_reference(make_encoder, problems):
    lengths = sizes(make_encoder, problems)
    encoder = make_encoder(max_teacher_prompt_tokens=lengths[2])
    assert filter_overlong(problems, encoder, "error") == ([0, 1, 2, 3], [])
    kept, dropped = filter_overlong(problems, encoder, "filter", with_teacher=True)
    assert kept == [0, 2]
    assert [location for location, _ in dropped] == ["a.jsonl:2", "a.jsonl:4"]
    for index in kept:  # what passed can be encoded
        assert len(encoder.teacher(problems[index]).token_ids) <= lengths[2]


def test_references_are_checked_where_the_teacher_is_needed(make_encoder, problems):
    lacking = Problem(id="p9", prompt="a", answer="1", location="a.jsonl:9")
    spelling = Problem(id="p10", prompt="a", reference="<|video_pad|>", location="a.jsonl:10")
    assert filter_overlong([lacking, spelling], make_encoder(), "error")[0] == [0, 1]
    with pytest.raises(ValueError, match=r"2 of 2") as caught:
        filter_overlong([lacking, spelling], make_encoder(), "error", with_teacher=True)
    assert "problem 'p9' (a.jsonl:9) has no reference" in str(caught.value)
    assert "problem 'p10' (a.jsonl:10): its text spells <|video_pad|>" in str(caught.value)


def test_an_unknown_rule_is_refused(make_encoder, problems):
    with pytest.raises(ValueError, match=r"on_overlong is 'skip'"):
        filter_overlong(problems, make_encoder(), "skip")
