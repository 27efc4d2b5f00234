"""Canaries: the same few problems in every run, with a wrong reference that the teacher alone is shown."""

import pytest

from rlsd_lightning.data.canaries import Canaries, as_taught, with_reference_of
from rlsd_lightning.prompts import PromptTemplate
from rlsd_lightning.types import Problem


def problem(number, answer=None, kind="math"):
    answer = str(number % 7) if answer is None else answer
    return Problem(
        id=f"p{number}", prompt=f"q{number}", answer=answer, reference=f"r{number}", kind=kind
    )


PROBLEMS = [problem(number) for number in range(400)]


def planted(problems):
    return {one.id: one.extra["canary"] for one in problems if "canary" in one.extra}


def test_none_is_planted_unless_asked_for():
    assert list(Canaries(PROBLEMS, 0.0)) == PROBLEMS


def test_about_the_share_that_was_asked_for_is_planted():
    found = planted(Canaries(PROBLEMS, 0.1))
    assert 20 <= len(found) <= 60  # 40 expected, standard deviation 6
    assert len(planted(Canaries(PROBLEMS, 1.0))) == len(PROBLEMS)


def test_what_is_planted_is_anothers_answer_with_its_reference_and_the_control_a_thirds():
    by_reference = {one.reference: one for one in PROBLEMS}
    for one in Canaries(PROBLEMS, 0.2):
        canary = one.extra.get("canary")
        if canary:
            assert by_reference[canary.reference].answer == canary.answer
            assert len({one.answer, canary.answer, canary.control}) == 3


def test_planted_and_control_answers_are_alike_on_average():
    """Half of all answers are "0": the first of two different ones that are met is "0" more often than the second."""
    skewed = [problem(n, answer=str(n % 9 if n % 2 else 0)) for n in range(4000)]
    found = planted(one for one in Canaries(skewed, 1.0) if one.answer != "0").values()
    rates = [
        sum(answer == "0" for answer in answers) / len(found)
        for answers in ([c.answer for c in found], [c.control for c in found])
    ]
    assert len(found) > 1500
    assert (
        abs(rates[0] - rates[1]) < 0.05
    )  # the standard error is 0.02; without the coin it is 0.2 or so


def test_the_choice_depends_on_the_id_alone():
    whole, half = planted(Canaries(PROBLEMS, 0.2)), planted(Canaries(PROBLEMS[:200], 0.2))
    assert half.keys() == {name for name in whole if int(name[1:]) < 200}
    assert planted(Canaries(PROBLEMS, 0.2)) == whole
    assert planted(Canaries(PROBLEMS, 0.1)).keys() <= whole.keys()


def test_the_policy_and_the_verifier_see_the_true_problem_and_the_teacher_the_planted_one():
    template = PromptTemplate("{{ problem.prompt }}", "{{ student }} {{ reference }}")
    for plain, one in zip(PROBLEMS, Canaries(PROBLEMS, 0.2), strict=True):
        assert (one.prompt, one.answer, one.reference) == (
            plain.prompt,
            plain.answer,
            plain.reference,
        )
        shown = template.reference_of(one).text
        canary = one.extra.get("canary")
        if canary is None:
            assert shown == f"{plain.reference}\n\nAnswer: {plain.answer}"
        else:
            assert shown == f"{canary.reference}\n\nAnswer: {canary.answer}"


def test_donors_are_of_the_same_kind():
    mixed = [problem(n, kind="math" if n % 2 else "choice") for n in range(100)]
    kinds = {one.reference: one.kind for one in mixed}
    assert planted(Canaries(mixed, 1.0))
    for one in Canaries(mixed, 1.0):
        assert kinds[one.extra["canary"].reference] == one.kind


def test_donors_come_from_all_over_the_set():
    found = planted(Canaries(PROBLEMS, 1.0)).values()
    assert len({canary.reference for canary in found}) > 100


def test_a_problem_without_two_donors_stays_as_it_is():
    alike = [problem(n, answer="yes" if n % 2 else " Yes ") for n in range(10)] + [
        problem(10, "no")
    ]
    assert planted(Canaries(alike, 1.0)) == {}


def test_another_reference_replaces_what_is_planted():
    canary = next(one for one in Canaries(PROBLEMS, 1.0))
    other = with_reference_of(canary, PROBLEMS[5])
    assert as_taught(other) is other
    assert (other.id, other.prompt) == (canary.id, canary.prompt)
    assert (other.answer, other.reference) == (PROBLEMS[5].answer, PROBLEMS[5].reference)


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"canary_fraction is .*\[0, 1\]"):
        Canaries(PROBLEMS, fraction)
