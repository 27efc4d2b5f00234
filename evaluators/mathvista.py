"""MathVista (arXiv:2310.02255), testmini: 1,000 questions on pictures, by kind of question, task, context and skill.

Official: a response that is nothing but an answer is taken as it is; from any other one a language model extracts the
answer (the judge here, if there is one), and fixed rules compare the extraction. Without a judge such responses count as
an empty extraction, as the script counts a failed call, and an empty extraction picks the shortest choice; `num_unread`
says how many there were. So either give a judge, or let the step answer_tag_or_box extract: what it leaves is judged as
an extraction is. VLMEvalKit (e8e78f05): its option rules and exact numbers, else its judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from rlsd_lightning.evaluators.mathvista_extractor import read_answer
from rlsd_lightning.evaluators.mathvista_rules import (
    answer_type,
    is_multiple_choice,
    letters_of,
    normalised_extraction,
    quick_extraction,
)
from rlsd_lightning.evaluators.vlmevalkit import can_infer
from rlsd_lightning.scoring import Benchmark, Sample, Score
from rlsd_lightning.scoring.intervals import mean, with_interval
from rlsd_lightning.scoring.samples import by_question
from rlsd_lightning.types import Problem

FIELDS = (
    *("question_type", "answer_type", "language", "source"),
    *("category", "task", "context", "grade", "skills"),
)
"""Published fields by whose values accuracy is told."""
UNREAD = "unread"
"""The note of a response that only a judge could read, where there is none."""


def score_extraction(problem: Problem, extraction: str) -> Score:
    """Judge what was extracted from a response: right is what equals the gold answer, as text, once it is normalised.

    Equal choices are equally right. -0.04 with one decimal is -0.0, which is not 0.0.

    Args:
        problem: the question.
        extraction: short text; empty where nothing was extracted.

    Raises:
        ValueError: the problem lacks what this needs.

    Example:
        >>> asked = {"question_type": "multi_choice", "answer_type": "text", "choices": ["7", "9"]}
        >>> score_extraction(Problem(id="1", prompt="?", answer="9", extra=asked), "(b)").correct
        True
    """
    prediction = normalised_extraction(problem, extraction)
    return Score(correct=prediction == problem.answer, prediction=prediction)


def vlmevalkit_reading(problem: Problem, text: str) -> tuple[str | None, bool]:
    """Return what VLMEvalKit reads in a text, None for nothing, and whether that is right.

    An option by its letter, so that of two equal choices only the first is right; whole numbers by int(), which does not
    know 14.0; numbers with decimals exactly, whatever the precision; a list never, as the code compares None with it.

    Args:
        problem: the question.
        text: a response, or what a judge says of it.

    Raises:
        ValueError: the gold answer is not among the choices.

    Example:
        >>> asked = {"question_type": "free_form", "answer_type": "float", "precision": 1.0}
        >>> vlmevalkit_reading(Problem(id="1", prompt="?", answer="1.2", extra=asked), "1.23")
        ('1.23', False)
    """
    if is_multiple_choice(problem):
        letters = letters_of(problem.extra["choices"])
        letter = can_infer(text, letters)
        return letter, letter == _gold_letter(problem, letters)
    parse = {"integer": int, "float": float}.get(answer_type(problem))
    if parse is None:
        return None, False
    try:
        number = parse(text)
        return str(number), number == parse(problem.answer)
    except ValueError:
        return None, False


def vlmevalkit_is_settled(problem: Problem, reading: str | None, right: bool) -> bool:
    """Whether VLMEvalKit asks no judge: an option was read, or the right number, unless that is 0, which Python takes for no.

    Example:
        >>> asked = {"question_type": "free_form", "answer_type": "integer"}
        >>> vlmevalkit_is_settled(Problem(id="13", prompt="?", answer="0", extra=asked), "0", True)
        False
    """
    if is_multiple_choice(problem):
        return reading is not None
    return right and float(reading or 0) != 0


def facts_and_shares(samples: Sequence[Sample]) -> list[tuple[dict[str, Any], float]]:
    """Return each question's facts, and the share of its samples that is right.

    Example:
        >>> samples = [Sample(id="1", number=n, extract="none", correct=n > 0, facts={"task": "VQA"}) for n in range(2)]
        >>> facts_and_shares(samples)
        [({'task': 'VQA'}, 0.5)]
    """
    return [
        (group[0].facts, mean([sample.correct for sample in group]))
        for group in by_question(samples).values()
    ]


class MathVista(Benchmark):
    """Scores MathVista: `accuracy`, and accuracy for every value of each published field.

    `accuracy/task/geometry problem solving`, `accuracy/skill/...`, and so for question_type, answer_type, language, source,
    category, context and grade, as far as problems have these fields; a question counts under all of its skills.
    `num_unread`: responses that only a judge could have read. Of several samples of a question the mean counts. The scorer
    `rules` is ours, not the benchmark's: it puts the rules of mathvista_extractor where a language model extracts answers.

    Args: as Benchmark. With scorer official, the judge is asked only where no extraction step came first.
    """

    scorers: ClassVar[tuple[str, ...]] = ("official", "vlmevalkit", "rules")

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self._step = self.extract[0]

    def text_to_score(self, step: str, response: str) -> str:
        """Keep in mind whether the text to score next is an extraction, which the official rules do not extract from."""
        self._step = step
        return super().text_to_score(step, response)

    def score(self, problem: Problem, text: str) -> Score:
        """Read the answer by the scorer's rules, or by the judge where they read none, and compare it."""
        rules = {
            "official": self._official,
            "vlmevalkit": self._vlmevalkit,
            "rules": self._rules,
        }
        facts = {field: problem.extra[field] for field in FIELDS if problem.extra.get(field)}
        return replace(rules[self.scorer](problem, text), facts=facts)

    def _official(self, problem: Problem, text: str) -> Score:
        extraction, note = text, ""
        if self._step == "none":
            quick = quick_extraction(problem, text)
            extraction, note = self._ask(problem, text) if quick is None else (quick, "")
        return replace(score_extraction(problem, extraction), note=note)

    def _rules(self, problem: Problem, text: str) -> Score:
        extraction, note = read_answer(problem, text), ""
        if not extraction:
            extraction, note = self._ask(problem, text)
        if not extraction:
            return Score(correct=False, note=note)
        return replace(score_extraction(problem, extraction), note=note)

    def _vlmevalkit(self, problem: Problem, text: str) -> Score:
        (reading, right), note = vlmevalkit_reading(problem, text), ""
        if not vlmevalkit_is_settled(problem, reading, right):
            said, note = self._ask(problem, text)
            reading, right = vlmevalkit_reading(problem, said)
        return Score(correct=right, prediction=reading, note=note)

    def _ask(self, problem: Problem, text: str) -> tuple[str, str]:
        """Return what the judge extracts, and the note that says so; nothing without a judge."""
        if self.judge is None:
            return "", UNREAD
        return self.judge.extract(problem, text), "judge"

    def aggregate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return accuracy over all questions, and over those with each value of each field."""
        questions = facts_and_shares(samples)
        groups: dict[str, list[float]] = {}
        for facts, share in questions:
            for field, value in facts.items():
                values = dict.fromkeys(value) if isinstance(value, list) else [value]
                for one in values:
                    groups.setdefault(f"accuracy/{field.removesuffix('s')}/{one}", []).append(share)
        num_unread = sum(sample.note == UNREAD for sample in samples)
        return {
            **with_interval("accuracy", [share for _, share in questions]),
            **{name: mean(groups[name]) for name in sorted(groups)},
            "num_unread": float(num_unread),
        }


def _gold_letter(problem: Problem, letters: Mapping[str, str]) -> str:
    """Return the first letter whose choice is the gold answer."""
    for letter, choice in letters.items():
        if choice == problem.answer:
            return letter
    raise ValueError(
        f"MathVista: {problem.place} has the answer {problem.answer!r}, but it must be one of its choices, "
        f"{', '.join(map(repr, letters.values()))}. Correct the row, or remove it."
    )
