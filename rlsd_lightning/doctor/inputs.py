"""Whether the data's first rows can be used, the verifier accepts their answers, and both prompts come out as meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from rlsd_lightning.answers.extraction import extract_answer
from rlsd_lightning.credit.spans import span_mask
from rlsd_lightning.data import StreamingProblems
from rlsd_lightning.data.images import ImageError, load_image
from rlsd_lightning.doctor.finding import Finding
from rlsd_lightning.interfaces import CreditAssigner, Verifier, ever_asks_teacher, needs_of
from rlsd_lightning.prompts import PromptEncoder, PromptTooLongError
from rlsd_lightning.records import decoder, token_pieces
from rlsd_lightning.types import Problem
from rlsd_lightning.verification import gold_faults

MAX_DECODED = 32
"""So many images are decoded to their last pixel."""
_LISTED = 3
THOUGHT = "Two and two make four, thus \u00bd + \u00bd = 1.\nSo it is."
"""What stands between the tags of the completion in which spans are looked for: several lines, odd characters."""


def check_data(make_dataset: Callable[..., Any], num_rows: int, on_bad_row: str) -> Finding:
    """Read the first rows and decode their images.

    Args:
        make_dataset: makes the training set; takes on_bad_row and limit.
        num_rows: how many rows to look at.
        on_bad_row: what the configuration says of bad rows.

    Returns:
        With the usable problems as its result.
    """
    dataset = make_dataset(on_bad_row="skip", limit=num_rows)
    if isinstance(dataset, StreamingProblems):
        problems = [problem for _, problem in dataset.iterate()]
    else:
        problems = [dataset[index] for index in range(len(dataset))]
    num_rows = len(problems) + len(dataset.skipped)
    bad = [f"{place}: {reason}" for place, reason in dataset.skipped]
    sizes = []
    for problem, image in list(islice(((p, i) for p in problems for i in p.images), MAX_DECODED)):
        try:
            sizes.append(load_image(image).size)
        except ImageError as error:
            bad.append(f"{problem.place}: {error}")
            problems.remove(problem)
    kinds = ", ".join(
        f"{kind or 'no kind'} {n}" for kind, n in Counter(p.kind for p in problems).items()
    )
    with_reference = sum(p.reference is not None for p in problems)
    seen = f"first {len(problems)} usable rows: {kinds}; {with_reference} with a reference; "
    seen += f"{len(sizes)} images decoded" + (
        f", {min(sizes)} to {max(sizes)} pixels." if sizes else "."
    )
    if bad:
        return Finding(
            check="data",
            level="fault" if on_bad_row == "error" else "warning",
            seen=f"{len(bad)} of the first {num_rows} rows cannot be used: {_listed(bad)}",
            advice="Correct them, or set data.on_bad_row=skip." if on_bad_row == "error" else "",
            result=problems,
        )
    return Finding(check="data", level="ok", seen=seen, result=problems)


def check_gold_answers(verifier: Verifier, problems: Sequence[Problem]) -> Finding:
    """Give each problem's own answer to the verifier, as a response.

    Args:
        verifier: judges.
        problems: whose answers. [P]
    """
    refused, unjudged = gold_faults(verifier, problems)
    name, of_all = type(verifier).__name__, f"of {len(problems)} gold answers"
    counts = f"{name} refuses {len(refused)} {of_all}, cannot judge {len(unjudged)}"
    if refused or unjudged:
        return Finding(
            check="gold answers",
            level="fault",
            seen=f"{counts}: {_listed(refused + unjudged)}",
            advice="Correct these answers, or choose another verifier.",
        )
    return Finding(check="gold answers", level="ok", seen=f"{counts}: all get full reward.")


def check_prompts(
    encoder: PromptEncoder, credit: CreditAssigner, problems: Sequence[Problem], on_overlong: str
) -> Finding:
    """Render what the student and the teacher read; the teacher must read the reference, too.

    Args:
        encoder: of the run.
        credit: says what the teacher reads.
        problems: of the first rows.
        on_overlong: what the configuration says of prompts that are too long.
    """
    lengths, longer, too_long, unshown = [], [], [], []
    with_reference = ever_asks_teacher(credit) and needs_of(credit).view == "reference"
    for problem in problems:
        try:
            student = len(encoder.student(problem).token_ids)
            lengths.append(student)
            if not with_reference:
                continue
            longer.append(len(encoder.teacher(problem).token_ids) - student)
        except PromptTooLongError as error:
            too_long.append(str(error))
            continue
        reference = encoder.template.reference_of(problem)
        if reference.text not in encoder.template.teacher_text(problem, reference.text):
            unshown.append(problem.place)
    if unshown:
        return Finding(
            check="prompts",
            level="fault",
            seen=f"the teacher's view does not show the reference of {len(unshown)} problems: {_listed(unshown)}",
            advice="Mend prompt.teacher: {{ reference }} must stand in it as it is.",
        )
    if too_long:
        return Finding(
            check="prompts",
            level="fault" if on_overlong == "error" else "warning",
            seen=f"{len(too_long)} of {len(problems)} prompts are too long. {too_long[0]}",
        )
    seen = f"{len(problems)} student prompts of {min(lengths)} to {max(lengths)} tokens"
    if with_reference:
        seen += f"; the teacher's, with the reference, are {min(longer)} to {max(longer)} longer"
    return Finding(check="prompts", level="ok", seen=f"{seen}.")


def check_spans(encoder: PromptEncoder, credit: CreditAssigner, problem: Problem) -> Finding:
    """Find thought and answer again in a completion in the form that the prompt asks for, by way of the tokenizer.

    Args:
        encoder: of the run.
        credit: says whether thoughts are looked for in training.
        problem: whose prompt and answer are taken.
    """
    response = f"<thought>{THOUGHT}</thought><answer>{problem.answer}</answer>"
    token_ids = encoder.tokenizer.encode(response, add_special_tokens=False)
    pieces = token_pieces(decoder(encoder.tokenizer), token_ids)
    inside = span_mask(pieces)
    thought = "".join(piece for piece, is_in in zip(pieces, inside, strict=True) if is_in)
    if THOUGHT not in thought or "<answer>" in thought:
        return Finding(
            check="spans",
            level="fault",
            seen=f"the thought {THOUGHT!r} was found as {thought!r} after the tokenizer.",
            advice="This tokenizer does not give text back as it was: methods that weigh thoughts cannot be used.",
        )
    answer = extract_answer("".join(pieces))
    if answer != problem.answer.strip():
        return Finding(
            check="spans",
            level="fault",
            seen=f"the answer {problem.answer!r} was found as {answer!r} after the tokenizer.",
            advice="This tokenizer does not give text back as it was: no answer could be judged.",
        )
    shown = f"{encoder.template.system or ''}{encoder.template.student_text(problem)}"
    seen = f"thought of {sum(inside)} tokens and answer found"
    if "<thought>" not in shown:
        return Finding(
            check="spans",
            level="warning" if needs_of(credit).spans else "ok",
            seen=f"{seen}; the prompt does not ask for <thought>.",
            advice="Completions without it have no thought to weigh: choose prompt=thought_answer."
            if needs_of(credit).spans
            else "",
        )
    return Finding(
        check="spans", level="ok", seen=f"{seen}; the prompt asks for <thought>, as is looked for."
    )


def _listed(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - _LISTED} more." if len(lines) > _LISTED else "."
    return "; ".join(line.rstrip(".") for line in lines[:_LISTED]) + more
