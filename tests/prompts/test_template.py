import pytest

from rlsd_lightning.prompts import PromptTemplate
from rlsd_lightning.prompts.template import IMAGE_MARK
from rlsd_lightning.types import Problem

TEACHER = "{{ student }}{% if reference %} reference: {{ reference }}{% endif %}"
PROBLEM = Problem(
    id="p7", prompt="1+1?", answer="2", reference="One and one.", location="train.jsonl:7"
)


def template(student="{{ problem.prompt }}", teacher=TEACHER, **settings):
    return PromptTemplate(student, teacher, **settings)


def test_the_teacher_reads_the_students_turn_and_the_reference():
    views = template(student="Q: {{ problem.prompt }}", reference="solution")
    assert views.student_text(PROBLEM) == "Q: 1+1?"
    reference = views.reference_of(PROBLEM).text
    assert views.teacher_text(PROBLEM, reference) == "Q: 1+1? reference: One and one."


def test_an_empty_reference_leaves_the_students_turn():
    assert template().teacher_text(PROBLEM, "") == template().student_text(PROBLEM)


@pytest.mark.parametrize(
    ("mode", "text"),
    [("answer", "2"), ("solution", "One and one."), ("both", "One and one.\n\nAnswer: 2")],
)
def test_the_reference_is_what_was_chosen(mode, text):
    assert template(reference=mode).reference_of(PROBLEM).text == text


@pytest.mark.parametrize("mode", ["solution", "both"])
def test_a_missing_solution_names_row_and_problem(mode):
    bare = Problem(id="p7", prompt="1+1?", answer="2", location="train.jsonl:7")
    with pytest.raises(
        ValueError, match=rf"problem 'p7' \(train\.jsonl:7\) has no reference.*={mode}"
    ):
        template(reference=mode).reference_of(bare)


def test_extra_columns_and_kind_can_be_shown():
    views = template(
        student="{{ problem.kind }} {{ problem.prompt }} {{ problem.extra.options.A }}"
    )
    problem = Problem(id="1", prompt="?", kind="multiple_choice", extra={"options": {"A": "cat"}})
    assert views.student_text(problem) == "multiple_choice ? cat"


def test_what_one_row_lacks_is_named_with_the_row():
    views = template(student="{{ problem.prompt }} {{ problem.extra.unit }}")
    with pytest.raises(
        ValueError, match=r"problem 'p7' \(train\.jsonl:7\): prompt\.student cannot .*unit"
    ):
        views.student_text(PROBLEM)


def test_markup_in_the_data_is_neither_escaped_nor_run():
    problem = Problem(id="1", prompt="if a < b & {{ c }} {% d %}", answer="<1>")
    assert template().student_text(problem) == "if a < b & {{ c }} {% d %}"
    views = template(reference="answer")
    assert views.teacher_text(problem, views.reference_of(problem).text).endswith("reference: <1>")


def test_only_the_questions_placeholders_become_places_for_images():
    views = template(student="{{ problem.prompt }} {{ problem.extra.options }}")
    problem = Problem(id="1", prompt="<image>?", extra={"options": "A <image>"})
    assert views.student_text(problem) == f"{IMAGE_MARK}? A <image>"
    assert "see <image>" in views.teacher_text(problem, "see <image>")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"student": "{{ problm.prompt }}"},
            r"prompt\.student shows 'problm'.*Did you mean 'problem'",
        ),
        ({"student": "{{ problem.promt }}"}, r"problem\.promt.*Did you mean 'prompt'"),
        ({"student": "{{ problem['promt'] }}"}, r"problem\.promt.*Did you mean 'prompt'"),
        ({"student": "{{ problem.prompt }} {{ reference }}"}, r"prompt\.student shows 'reference'"),
        ({"student": "{{ problem.prompt }} {{ problem.answer }}"}, r"only the teacher may see"),
        (
            {"student": "{{ problem.prompt }} {{ problem['reference'] }}"},
            r"only the teacher may see",
        ),
        ({"student": "What is it?"}, r"prompt\.student never shows problem\.prompt"),
        ({"teacher": "{{ student }}"}, r"prompt\.teacher never shows reference"),
        ({"teacher": "{{ reference }}"}, r"prompt\.teacher never shows student"),
        (
            {"teacher": "{{ student }} {{ refernce }}"},
            r"shows 'refernce'.*Did you mean 'reference'",
        ),
        (
            {"student": "{{ problem.prompt }\n"},
            r"prompt\.student, line 1: .*Needed: a Jinja template",
        ),
        ({"student": "{{ problem.prompt | shout }}"}, r"prompt\.student, line 1: .*shout"),
        ({"reference": "trace"}, r"prompt\.reference is 'trace'. Needed: answer, solution or both"),
        ({"max_reference_tokens": 0}, r"prompt\.max_reference_tokens is 0"),
    ],
)
def test_templates_that_cannot_be_meant_are_refused_when_built(settings, message):
    with pytest.raises(ValueError, match=message):
        template(**settings)


def test_templates_cannot_reach_into_python():
    views = template(student="{{ problem.prompt }} {{ ''.__class__ }}")
    with pytest.raises(ValueError, match=r"prompt\.student cannot be rendered .*unsafe"):
        views.student_text(PROBLEM)


def test_a_column_of_the_wrong_type_is_named_with_the_row():
    views = template(
        student="{{ problem.prompt }}{% for o in problem.extra.options %}{{ o }}{% endfor %}"
    )
    problem = Problem(id="p7", prompt="?", extra={"options": 4}, location="train.jsonl:7")
    with pytest.raises(
        ValueError, match=r"problem 'p7' \(train\.jsonl:7\): prompt\.student cannot"
    ):
        views.student_text(problem)


def test_a_template_can_let_the_images_stand_first():
    problem = Problem(id="1", prompt="What is <image> to <image>?", extra={"note": "<image>"})
    views = template(student="{{ problem.prompt | without_images }} {{ problem.extra.note }}")
    assert views.student_text(problem) == "What is  to ? <image>"
