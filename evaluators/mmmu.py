"""MMMU (Yue et al., arXiv:2311.16502): accuracy over subjects and disciplines, by the official rules or VLMEvalKit's.

Facts from MMMU-Benchmark/MMMU at bb0b95a9 (mmmu/utils) and VLMEvalKit at e8e78f05 (vlmeval/dataset/utils/multiple_choice.py).
A response that the official code cannot read gets a random letter there; here it is wrong and counted, and the number with
random letters stands beside.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase

from rlsd_lightning.data.benchmarks import mmmu as data
from rlsd_lightning.evaluators.mmmu_rules import open_is_right, read_letter, read_open
from rlsd_lightning.evaluators.vlmevalkit import REFUSAL, can_infer
from rlsd_lightning.scoring import Benchmark, Sample, Score
from rlsd_lightning.scoring.intervals import mean, with_interval
from rlsd_lightning.scoring.samples import by_question
from rlsd_lightning.types import Problem

DISCIPLINES: dict[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
"""Subjects by discipline, in the official order (DOMAIN_CAT2SUB_CAT)."""
SUBJECTS = data.SUBJECTS
"""In the order in which the official script scores them (CAT_SHORT2LONG), which is the alphabet's."""
MULTIPLE_CHOICE, OPEN = "multiple-choice", "open"
SEED = 42
"""The official code's, set once before it scores."""


def subject_of(id_: str) -> str:
    """Return the subject in a question's id: all but its first and last part.

    Raises:
        ValueError: it holds no subject of MMMU.

    Example:
        >>> subject_of("validation_Art_Theory_3")
        'Art_Theory'
    """
    subject, number = data.subject_of(id_), id_.rpartition("_")[2]
    if subject not in SUBJECTS or not number.isdecimal():
        raise ValueError(
            f"MMMU: a problem's id is {id_!r}, but it must be <split>_<subject>_<number> with one of the benchmark's 30 "
            f"subjects, such as validation_Accounting_1. Load the published ids."
        )
    return subject


def gold_answers(problem: Problem) -> list[str]:
    """Return all answers that count as right: extra["answers"], else the answer, unpacked if it spells a list.

    The hub has three open questions whose answer is a list in a string; packed, they could never be answered.

    Raises:
        ValueError: an answer is empty, which every response would contain.

    Example:
        >>> gold_answers(Problem(id="validation_Geography_4", prompt="", answer="['Tampa', 'Florida']"))
        ['Tampa', 'Florida']
    """
    is_list = problem.answer.startswith("['") and problem.answer.endswith("']")
    unpacked = ast.literal_eval(problem.answer) if is_list else [problem.answer]
    golds = list(problem.extra.get("answers") or unpacked)
    if not all(gold.strip() for gold in golds):
        raise ValueError(
            f"MMMU: {problem.place} has the answers {golds}, but an empty one would be found in every response. Give the "
            f"published answer, or remove the problem."
        )
    return golds


def options_of(problem: Problem) -> dict[str, str]:
    """Return option texts by letter; empty for an open question.

    Raises:
        ValueError: the question type is unknown, or a multiple-choice question's options or gold letter are missing.

    Example:
        >>> extra = {"question_type": "multiple-choice", "options": ["$6", "$7"]}
        >>> options_of(Problem(id="validation_Accounting_1", prompt="", answer="B", extra=extra))
        {'A': '$6', 'B': '$7'}
    """
    kind = problem.extra.get("question_type")
    if kind == OPEN:
        return {}
    options = problem.extra.get("options")
    if kind != MULTIPLE_CHOICE or not isinstance(options, Sequence) or isinstance(options, str):
        raise ValueError(
            f"MMMU: {problem.place} has question_type {kind!r} and options {options!r}, but needed are {MULTIPLE_CHOICE!r} "
            f"with a list of options, or {OPEN!r}. Load the published fields."
        )
    choices = dict(zip(ascii_uppercase, options, strict=False))
    if problem.answer not in choices:
        raise ValueError(
            f"MMMU: {problem.place} has the answer {problem.answer!r}, but its {len(choices)} options need a letter from A "
            f"on. Give the published answer, or remove the problem."
        )
    return choices


def as_multiple_choice(golds: Sequence[str]) -> tuple[dict[str, str], str]:
    """Return the options and the gold letter that VLMEvalKit makes of an open question.

    A is the gold answer, B stands for all others, and A is right. A list stays one text; a gold that is a capital letter
    itself stays the gold letter, so that "B" asks for "Other Answers" and "C" for an option that is not there.

    Args:
        golds: all answers that count as right.

    Example:
        >>> as_multiple_choice(["1.06"])
        ({'A': '1.06', 'B': 'Other Answers'}, 'A')
        >>> as_multiple_choice(["C"])
        ({'A': 'C', 'B': 'Other Answers'}, 'C')
    """
    gold = golds[0] if len(golds) == 1 else str(list(golds))
    return {"A": gold, "B": "Other Answers"}, gold if gold in tuple(ascii_uppercase) else "A"


def per_question(samples: Iterable[Sample]) -> list[float]:
    """Return each question's share of right responses, in order of first appearance.

    Returns:
        One per question. [N]

    Example:
        >>> rights = [("1", True), ("1", False), ("2", True)]
        >>> per_question(
        ...     Sample(id=id_, number=n, extract="none", correct=right)
        ...     for n, (id_, right) in enumerate(rights)
        ... )
        [0.5, 1.0]
    """
    return [mean([s.correct for s in group]) for group in by_question(samples).values()]


def accuracies(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the accuracy with its interval, and those of disciplines, subjects and question types.

    Every number is a mean over questions (micro, as calculate_ins_level_acc), NaN where there are none.

    Args:
        samples: with the facts "subject" and "question_type".
    """
    groups: dict[str, tuple[str, ...]] = DISCIPLINES | {name: (name,) for name in SUBJECTS}
    found = with_interval("accuracy", per_question(samples))
    for name, subjects in groups.items():
        inside = [sample for sample in samples if sample.facts["subject"] in subjects]
        found[f"accuracy/{name}"] = mean(per_question(inside))
    for kind in (MULTIPLE_CHOICE, OPEN):
        inside = [sample for sample in samples if sample.facts["question_type"] == kind]
        found[f"accuracy/{kind}"] = mean(per_question(inside))
    return found


def with_random_letters(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples as the official script would score them: its random letters drawn for the unread responses.

    It seeds once, goes through the subjects in the order of the alphabet and through each in the order of its file, and
    draws random.choice of the options for every response that it cannot read. Of several samples per question, each
    number is one run of the script.

    Args:
        samples: with the fact "subject" and, where the note is "fallback", "options" (the letters) and "gold".

    Example:
        >>> facts = {"subject": "Art", "options": "ABCD", "gold": "A"}
        >>> unread = Sample(
        ...     id="validation_Art_1", number=0, extract="none", correct=False, note="fallback", facts=facts
        ... )
        >>> [sample.correct for sample in with_random_letters([unread])]
        [True]
    """
    draws: dict[int, random.Random] = {}
    found: list[Sample] = []
    for sample in sorted(samples, key=_official_place):
        correct = sample.correct
        if sample.note == "fallback":
            draw = draws.setdefault(sample.number, random.Random(SEED))
            correct = draw.choice(sample.facts["options"]) == sample.facts["gold"]
        found.append(
            Sample(id=sample.id, number=sample.number, extract=sample.extract, correct=correct)
        )
    return found


def _official_place(sample: Sample) -> tuple[str, str, int]:
    split, _, number = sample.id.rpartition("_")
    return sample.facts["subject"], split, int(number)


class MMMU(Benchmark):
    """Scores MMMU: accuracy over all questions, per discipline, subject and question type.

    Beside `accuracy`, `accuracy/<discipline>`, `accuracy/<subject>`, `accuracy/multiple-choice` and `accuracy/open`:

    - scorer official: `fallback_fraction` and `num_fallback`, responses that the official code answers at random and that
      are wrong here, and `accuracy_random_fallback`, the number with its random letters (seed 42).
    - scorer vlmevalkit: `undecided_fraction`, responses that its rules cannot read and that its judge would be asked.

    The judge, if there is one, is asked for responses of both kinds, and the rules read the letter that it says.

    Args: as Benchmark.
    """

    def score(self, problem: Problem, text: str) -> Score:
        """Score a response by the chosen rules.

        Raises:
            ValueError: the problem lacks MMMU's id or fields.
        """
        choices, gold, golds = options_of(problem), problem.answer, gold_answers(problem)
        facts = {
            "subject": subject_of(problem.id),
            "question_type": MULTIPLE_CHOICE if choices else OPEN,
        }
        if not choices and self.scorer == "official":
            readings = read_open(text)
            right = open_is_right(readings, golds)
            return Score(correct=right, prediction=json.dumps(readings), facts=facts)
        if not choices:
            choices, gold = as_multiple_choice(golds)
        return self._score_letter(problem, text, choices, gold, facts)

    def _score_letter(
        self,
        problem: Problem,
        text: str,
        choices: Mapping[str, str],
        gold: str,
        facts: dict[str, str],
    ) -> Score:
        read = read_letter if self.scorer == "official" else can_infer
        letter, note = read(text, choices), ""
        if letter is None and self.judge is not None:
            letter, note = read(self.judge.extract(problem, text), choices), "judge"
        if letter is not None:
            return Score(correct=letter == gold, prediction=letter, note=note, facts=facts)
        if self.scorer == "official":
            drawn = {"options": "".join(choices), "gold": gold}
            return Score(correct=False, note="fallback", facts=facts | drawn)
        return Score(correct=False, prediction=REFUSAL, note="undecided", facts=facts)

    def aggregate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return all accuracies, and how many responses the rules could not read."""
        found = accuracies(samples)
        if self.scorer != "official":
            return found | {"undecided_fraction": mean([s.note == "undecided" for s in samples])}
        unread = [sample.note == "fallback" for sample in samples]
        return found | {
            "fallback_fraction": mean(unread),
            "num_fallback": float(sum(unread)),
            "accuracy_random_fallback": mean(per_question(with_random_letters(samples))),
        }
