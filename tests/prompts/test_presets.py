"""The templates of conf/prompt: what each of the two views shows."""

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from rlsd_lightning.types import Problem

INSTRUCTION = (
    "First think step by step inside <thought></thought>, then write only the final answer inside "
    "<answer></answer>."
)
CHOICE = Problem(
    id="p1",
    prompt="What is it?",
    answer="B",
    reference="It barks.",
    kind="multiple_choice",
    extra={"options": {"A": "cat", "B": "dog", "C": None}},
)


def preset(name, *overrides):
    with initialize_config_module("rlsd_lightning.conf", version_base=None):
        return instantiate(compose(f"prompt/{name}", overrides=list(overrides)).prompt)


def views(template, problem):
    reference = template.reference_of(problem).text
    return template.student_text(problem), template.teacher_text(problem, reference)


def test_thought_answer_shows_task_question_options_and_instruction():
    student, teacher = views(preset("thought_answer"), CHOICE)
    assert student == (
        "Choose the option that answers the question. Answer with its letter.\n\n"
        f"What is it?\n\nOptions:\nA. cat\nB. dog\n\n{INSTRUCTION}"
    )
    assert teacher == (
        f"{student}\n\nA reference solution, which is no part of the question:\n"
        "It barks.\n\nAnswer: B\n\n"
        "Think and answer as asked above, in your own words and without mentioning the reference."
    )


def test_options_in_a_list_get_letters_and_other_kinds_none():
    template = preset("thought_answer")
    listed = Problem(id="1", prompt="?", kind="multiple_choice", extra={"options": ["cat", "dog"]})
    assert "\nOptions:\nA. cat\nB. dog\n" in template.student_text(listed)
    plain = Problem(id="1", prompt="1+1?", kind="anything")
    assert template.student_text(plain) == f"Answer the question.\n\n1+1?\n\n{INSTRUCTION}"
    none = Problem(id="1", prompt="1+1?", kind="anything", extra={"options": []})
    assert template.student_text(none) == template.student_text(plain)


def test_the_official_teacher_reads_the_bare_question():
    student, teacher = views(preset("rlsd_official"), CHOICE)
    assert student == preset("thought_answer").student_text(CHOICE)
    assert teacher == f"What is it?\n\nHere is a reference solution:\nB\n\n{INSTRUCTION}"


def test_the_quickstart_shows_the_question_and_the_solution_behind_it():
    student, teacher = views(preset("quickstart"), CHOICE)
    assert (student, teacher) == ("What is it?", "What is it? reference: It barks.")


@pytest.mark.parametrize("name", ["thought_answer", "quickstart"])
@pytest.mark.parametrize("problem", [CHOICE, Problem(id="1", prompt="<image> 1+1?")])
def test_without_a_reference_the_teacher_reads_the_students_turn(name, problem):
    template = preset(name)
    assert template.teacher_text(problem, "") == template.student_text(problem)


def test_settings_can_be_overridden():
    template = preset("thought_answer", "prompt.reference=answer", "prompt.max_reference_tokens=5")
    assert template.reference_of(CHOICE).text == "B"
    assert template.max_reference_tokens == 5
