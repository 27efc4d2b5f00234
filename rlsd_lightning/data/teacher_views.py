"""What the teacher reads in a step: each problem's reference, what siblings of a completion wrote, or the bare problem.

One view per problem, so that its completions share one prompt. A problem without a view gets no teacher: SDPO has
nothing to show where no completion was right.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlsd_lightning.data.canaries import with_reference_of
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.prompts.reference import Reference
from rlsd_lightning.types import Completion, Problem, Prompt, TeacherView, Verdict


def teacher_prompts(
    encoder: PromptEncoder,
    view: TeacherView,
    problems: Sequence[Problem],
    students: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
    verdicts: Sequence[Sequence[Verdict]],
) -> list[Prompt | None]:
    """Return the teacher's prompt of each problem; None where there is nothing to show.

    Args:
        encoder: renders prompts.
        view: what is shown.
        problems: [P]
        students: what the policy has read. [P]
        completions: [P][G]
        verdicts: [P][G]
    """
    if view == "student":
        return [*students]
    if view == "reference":
        return [encoder.teacher(problem) for problem in problems]
    shown = [
        sibling_reference(encoder, *group)
        for group in zip(problems, completions, verdicts, strict=True)
    ]
    return [
        None if reference is None else encoder.teacher(problem, reference)
        for problem, reference in zip(problems, shown, strict=True)
    ]


def sibling_reference(
    encoder: PromptEncoder,
    problem: Problem,
    completions: Sequence[Completion],
    verdicts: Sequence[Verdict],
) -> Reference | None:
    """Return the reference made of the shortest correct and the shortest incorrect completion of a group.

    SDPO (arXiv:2601.20802), as RLSD's released code (arXiv:2604.03128) chooses them. The whole group shares it, so the
    completion that is shown is scored with itself in view. None where no completion is correct: a failed
    attempt alone says nothing of what would be right.
    """
    correct = _shortest(completions, [verdict.valid and verdict.correct for verdict in verdicts])
    incorrect = _shortest(completions, [v.valid and not v.correct for v in verdicts])
    if not correct:
        return None
    return encoder.template.sibling_reference(problem, correct, incorrect)


def contrast_prompts(encoder: PromptEncoder, problems: Sequence[Problem]) -> list[Prompt]:
    """Return the teacher's prompt of each problem with the reference of another one, whose answer differs if any does.

    Raises:
        ValueError: there is one problem only.
    """
    if len(problems) < 2:
        raise ValueError(
            f"rollout.problems_per_step gives this process {len(problems)} problem, but the method contrasts its "
            "reference with another problem's. Needed: 2 or more problems on each process. Raise it."
        )
    return [
        encoder.teacher(with_reference_of(problem, other))
        for problem, other in zip(problems, strangers(problems), strict=True)
    ]


def strangers(problems: Sequence[Problem]) -> list[Problem]:
    """Return for each problem the next one, round and round, whose answer differs; the next one if none does.

    Example:
        >>> a, b, c = (Problem(id=id_, prompt="", answer=answer) for id_, answer in ["a1", "b1", "c2"])
        >>> [other.id for other in strangers([a, b, c])]
        ['c', 'c', 'a']
    """
    others = [[*problems[i + 1 :], *problems[:i]] for i in range(len(problems))]
    return [
        next((other for other in rest if other.answer != problem.answer), rest[0])
        for problem, rest in zip(problems, others, strict=True)
    ]


def _shortest(completions: Sequence[Completion], chosen: Sequence[bool]) -> str:
    """Return the text of the shortest chosen completion that ended by itself; empty for none."""
    texts = [
        completion
        for completion, is_chosen in zip(completions, chosen, strict=True)
        if is_chosen and completion.finish_reason == "stop"
    ]
    return min(texts, key=lambda completion: len(completion.token_ids)).text if texts else ""
