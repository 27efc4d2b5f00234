"""What the teacher reads: the reference, a sibling, the bare problem, or another problem's reference."""

import pytest

from rlsd_lightning.data.teacher_views import contrast_prompts, strangers, teacher_prompts
from rlsd_lightning.models.text import TextFamily
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.types import Completion, Problem, Verdict
from tests.helpers.tiny_processor import tiny_tokenizer

PROBLEMS = [
    Problem("a", "1+1", answer="2", reference="one and one"),
    Problem("b", "2+2", answer="4", reference="two and two"),
    Problem("c", "3+1", answer="4", reference="three and one"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def encoder(tokenizer):
    """Return a function that makes an encoder whose prompts have a given template for siblings."""

    def make(siblings="{{ correct }}|{{ incorrect }}"):
        template = PromptTemplate(
            "{{ problem.prompt }}",
            "{{ student }} ref {{ reference }}",
            reference="both",
            siblings=siblings,
        )
        return PromptEncoder(tokenizer, template, TextFamily())

    return make


@pytest.fixture
def shown(tokenizer):
    """Return a function that reads the teacher's user turn out of a prompt."""

    def read(prompt):
        text = tokenizer.decode(prompt.token_ids, skip_special_tokens=True)
        return text.split("user\n")[-1].rsplit("assistant", 1)[0].strip()

    return read


def completion(text, num_tokens, finish_reason="stop"):
    return Completion([1] * num_tokens, [-0.1] * num_tokens, text, finish_reason)


RIGHT, WRONG = Verdict(1.0, correct=True), Verdict(0.0, correct=False)
UNJUDGED = Verdict(0.0, correct=False, valid=False)


def sibling_views(encoder, *members):
    completions, verdicts = zip(*members, strict=True)
    return teacher_prompts(encoder, "siblings", PROBLEMS[:1], [], [completions], [verdicts])


def test_the_reference_view_is_the_encoders_own(encoder):
    made = encoder()
    views = teacher_prompts(made, "reference", PROBLEMS, [], [], [])
    assert [v.token_ids for v in views] == [made.teacher(p).token_ids for p in PROBLEMS]


def test_an_external_teacher_reads_what_the_student_reads(encoder):
    made = encoder()
    students = [made.student(problem) for problem in PROBLEMS]
    views = teacher_prompts(made, "student", PROBLEMS, students, [], [])
    assert [v.token_ids for v in views] == [made.student(p).token_ids for p in PROBLEMS]


def test_sdpo_shows_the_shortest_correct_and_the_shortest_incorrect_completion_and_no_reference(
    encoder, shown
):
    (view,) = sibling_views(
        encoder(),
        (completion("long right", 9), RIGHT),
        (completion("right", 4), RIGHT),
        (completion("wrong", 5), WRONG),
        (completion("long wrong", 8), WRONG),
        (completion("who knows", 1), UNJUDGED),
    )
    assert shown(view) == "1+1 ref right|wrong"


def test_a_completion_that_was_cut_off_is_nobodys_example(encoder, shown):
    (view,) = sibling_views(
        encoder(),
        (completion("cut", 2, "length"), RIGHT),
        (completion("whole", 6), RIGHT),
        (completion("cut too", 1, "length"), WRONG),
    )
    assert shown(view) == "1+1 ref whole|"


def test_where_no_completion_is_correct_the_teacher_has_nothing_to_read(encoder):
    assert sibling_views(encoder(), (completion("wrong", 5), WRONG)) == [None]


def test_a_prompt_without_a_template_for_siblings_is_refused(encoder):
    with pytest.raises(ValueError, match=r"prompt\.siblings is null"):
        sibling_views(encoder(siblings=None), (completion("right", 4), RIGHT))


def test_a_template_for_siblings_must_show_the_correct_one(encoder):
    with pytest.raises(ValueError, match=r"prompt\.siblings never shows correct"):
        encoder(siblings="{{ incorrect }}")


def test_the_contrast_shows_answer_and_reference_of_a_problem_with_another_answer(encoder, shown):
    """b and c both answer 4: b gets a's and c's contrast is a's too."""
    views = contrast_prompts(encoder(), PROBLEMS)
    assert [shown(view) for view in views] == [
        "1+1 ref two and two\n\nAnswer: 4",
        "2+2 ref one and one\n\nAnswer: 2",
        "3+1 ref one and one\n\nAnswer: 2",
    ]
    assert [view.id for view in views] == ["a", "b", "c"]


def test_where_all_answers_are_alike_the_next_problem_has_to_do():
    assert [p.id for p in strangers(PROBLEMS[1:])] == ["c", "b"]


def test_a_contrast_needs_another_problem(encoder):
    with pytest.raises(ValueError, match="problems_per_step gives this process 1 problem"):
        contrast_prompts(encoder(), PROBLEMS[:1])
