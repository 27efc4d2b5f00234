"""We-Math (arXiv:2407.01284), testmini: 525 problems in two or three steps, each step also asked on its own.

Official (We-Math a57a0e83, evaluation/four_dimensional_metrics.py and accuracy.py): a letter behind the last "Answer".
VLMEvalKit (e8e78f05): its option rules, else its judge. Both then say of every problem which of four things was seen:

    IK  insufficient knowledge        a step is wrong, and the whole
    IG  inadequate generalisation     every step is right, the whole is wrong
    CM  complete mastery              every step is right (loose: any), and the whole
    RM  rote memorisation             a step is wrong (loose: every), the whole is right

Problems are joined as the scripts join them: to the row of the first step. Where a row is missing, what the others say
counts only as far as the table above can be read without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rlsd_lightning.evaluators.vlmevalkit import can_infer
from rlsd_lightning.evaluators.wemath_concepts import CATEGORIES
from rlsd_lightning.scoring import Benchmark, Judge, Sample, Score
from rlsd_lightning.scoring.intervals import mean, with_interval
from rlsd_lightning.types import Problem

NUM_PROBLEMS = 525
"""What the scripts divide by, however many problems were answered."""
POINTS = {"CM": 1.0, "IG": 0.5, "IK": 0.0, "RM": 0.0, "": 1.0}
"""What a problem adds to the score. What falls into no class counts as mastered: the scripts subtract from 525."""
UNREAD = "unread"
"""The note of a response in which the rules found no option, and no judge was asked."""
_LETTERS = "ABCDEFGH"
_NOT_AN_ANSWER = str.maketrans("", "", "><:.")
_KEY = re.compile(r"2steps_[12]|3steps_[123]|[23]steps_multi")
_FIRST_OPTION = re.compile(r"\s*A\s*\.")
_NEXT_OPTION = {letter: re.compile(rf"[;\uff1b]\s*{letter}\s*\.") for letter in _LETTERS[1:]}


def official_letter(text: str) -> str | None:
    """Return the letter with which the text behind the last "Answer" begins, `> < : .` left out; None for no letter A to H.

    The word is found inside of "Answers" and of a closing </Answer>, and a text without it is read from its start.

    Example:
        >>> [official_letter(text) for text in ("<Answer>: <<B>>", "Answer: (B)", "Because of C", "So it is C")]
        ['B', None, 'B', None]
    """
    answer = text.rpartition("Answer")[2].strip().translate(_NOT_AN_ANSWER).strip()
    return answer[0] if answer and answer[0] in _LETTERS else None


def options_of(option: str) -> dict[str, str]:
    """Return the published line of options as texts by letter; semicolons inside of a text stay there.

    Example:
        >>> options_of("A. 1; 3;B. 2;    C. I; D. No correct answer")
        {'A': '1; 3', 'B': '2', 'C': 'I', 'D': 'No correct answer'}
    """
    found: dict[str, str] = {}
    mark = _FIRST_OPTION.match(option)
    for letter, following in zip(_LETTERS, [*_LETTERS[1:], ""], strict=True):
        if mark is None:
            break
        start = mark.end()
        mark = _NEXT_OPTION[following].search(option, start) if following else None
        found[letter] = option[start : mark.start() if mark else None].strip(" ;\n")
    return found


def dimension(steps: Sequence[bool | None], whole: bool | None, loose: bool = False) -> str:
    """Return which of IK, IG, CM and RM was seen; empty where missing answers leave that open.

    Args:
        steps: whether each step is right; None for a missing answer.
        whole: whether the problem as a whole is right.
        loose: whether one right step is enough for mastery, and only wrong steps make it rote.

    Example:
        >>> dimension([True, False], whole=True), dimension([True, False], whole=True, loose=True)
        ('RM', 'CM')
        >>> dimension([True, True], whole=False), dimension([True, False], False), dimension([True, None], False)
        ('IG', 'IK', '')
    """
    if whole is None:
        return ""
    if not whole:
        return "IG" if all(steps) else "IK" if False in steps else ""
    if loose:
        return "CM" if any(steps) else "RM" if all(step is False for step in steps) else ""
    return "CM" if all(steps) else "RM" if False in steps else ""


@dataclass(slots=True)
class Answers:
    """What was answered to one problem, whole and by steps."""

    num_steps: int
    correct: dict[str, bool] = field(default_factory=dict)
    """Whether the answer is right, by the end of its key: "1", "2", "3", "multi"."""
    concepts: dict[str, str] = field(default_factory=dict)
    """The knowledge concept that is asked for, by the end of the key."""

    @property
    def steps(self) -> list[bool | None]:
        """Whether each step is right; None where its answer is missing."""
        return [self.correct.get(str(step)) for step in range(1, self.num_steps + 1)]

    @property
    def whole(self) -> bool | None:
        """Whether the problem as a whole is right; None where its answer is missing."""
        return self.correct.get("multi")

    @property
    def complete(self) -> bool:
        """Whether no answer is missing."""
        return None not in (*self.steps, self.whole)

    def dimension(self, loose: bool) -> str:
        """Return the problem's class; none without the first step, which the scripts join the others to."""
        return dimension(self.steps, self.whole, loose) if "1" in self.correct else ""


def by_problem(samples: Iterable[Sample]) -> list[Answers]:
    """Put answers to steps and wholes together by their problem."""
    problems: dict[str, Answers] = {}
    for sample in samples:
        part = sample.facts["key"].rpartition("_")[2]
        answers = problems.setdefault(sample.facts["ID"], Answers(int(sample.facts["key"][0])))
        answers.correct[part] = sample.correct
        answers.concepts[part] = sample.facts["concept"]
    return list(problems.values())


def four_dimensions(problems: Sequence[Answers], total: int, ending: str = "") -> dict[str, float]:
    """Return counts and rates of the four classes, and the score, each in the strict and in the loose reading.

    Score = (N - 0.5 IG - RM - IK) / N; rates of IK, IG, CM = count / N; rate of RM = RM / (CM + RM), NaN for 0 / 0.

    Args:
        problems: those that are counted.
        total: N; problems that are not there count as mastered, as in the scripts.
        ending: is put behind every name.

    Example:
        >>> found = four_dimensions([Answers(2, {"1": True, "2": True, "multi": False})], total=2)
        >>> found["num_ig"], found["ig_rate"], found["score_strict"]
        (1.0, 0.5, 0.75)
    """
    found: dict[str, float] = {}
    for reading in ("strict", "loose"):
        seen = [answers.dimension(reading == "loose") for answers in problems]
        for name in ("IK", "IG", "CM", "RM"):
            both = name in ("IK", "IG")  # the same in both readings
            label = name.lower() if both else f"{name.lower()}_{reading}"
            whole = seen.count("CM") + seen.count("RM") if name == "RM" else total
            found[f"num_{label}{ending}"] = float(seen.count(name))
            found[f"{label}_rate{ending}"] = seen.count(name) / whole if whole else float("nan")
        points = [POINTS[name] for name in seen] + [1.0] * (total - len(seen))
        found |= with_interval(f"score_{reading}{ending}", points)
    return found


def step_accuracies(problems: Sequence[Answers]) -> dict[str, float]:
    """Return accuracy on single steps (S1), on whole problems in two (S2) and in three steps (S3), and by category.

    A category's accuracy is the mean over its concepts that were asked for, each the mean over its steps; NaN for none.

    Example:
        >>> problem = Answers(2, {"1": True, "2": False, "multi": True}, {"1": "Parallel", "2": "Understanding Circles"})
        >>> found = step_accuracies([problem])
        >>> found["accuracy/S1"], found["accuracy/S2"], found["accuracy/category/Understanding of Plane Figures"]
        (0.5, 1.0, 0.5)
    """
    joined = [answers for answers in problems if "1" in answers.correct]
    by_concept: dict[str, list[bool]] = {}
    for answers in joined:
        for part, right in answers.correct.items():
            if part != "multi":
                by_concept.setdefault(answers.concepts[part], []).append(right)
    wholes = {
        steps: [a.whole for a in joined if a.num_steps == steps and a.whole is not None]
        for steps in (2, 3)
    }
    return {
        "accuracy/S1": mean([right for rights in by_concept.values() for right in rights]),
        "accuracy/S2": mean(wholes[2]),
        "accuracy/S3": mean(wholes[3]),
        **{
            f"accuracy/category/{category}": mean(
                [mean(by_concept[concept]) for concept in concepts if concept in by_concept]
            )
            for category, concepts in CATEGORIES.items()
        },
    }


class WeMath(Benchmark):
    """Scores We-Math: the four dimensions, the score they make, accuracy by number of steps and by category.

    `score_strict`, the headline, and `score_loose` divide by 525 as the scripts do, so that problems that are not there
    count as mastered: on a subset only `score_strict_complete` and the like mean something, which are over problems
    without a missing answer. Likewise `num_ik`, `num_ig`, `num_cm_strict`, `num_rm_loose`, ..., `ik_rate`,
    `cm_strict_rate`, ..., with and without `_complete`; accuracy/S1, S2, S3 and accuracy/category/...; `num_complete`,
    `num_incomplete` problems; `num_unread` responses in which no option was found. Intervals are over problems.

    Args: as Benchmark. The judge is asked with scorer vlmevalkit only, as officially rules decide alone.

    Raises:
        ValueError: several samples per problem, which the join of steps cannot tell apart.
    """

    headline = "score_strict"

    def __init__(
        self,
        *,
        scorer: str = "official",
        extract: str | Sequence[str] = "none",
        samples_per_problem: int = 1,
        judge: Judge | None = None,
        audit_path: str | None = None,
    ) -> None:
        super().__init__(
            scorer=scorer,
            extract=extract,
            samples_per_problem=samples_per_problem,
            judge=judge,
            audit_path=audit_path,
        )
        if samples_per_problem != 1:
            raise ValueError(
                f"WeMath: samples_per_problem is {samples_per_problem}, but steps and wholes are joined answer by answer, so "
                f"it must be 1. Set it to 1, and use another seed for another run."
            )

    def score(self, problem: Problem, text: str) -> Score:
        """Read an option by the scorer's rules and compare its letter."""
        facts = _facts(problem)
        letter, note = self._letter(problem, text)
        return Score(
            correct=letter == problem.answer,
            prediction=letter,
            note=note or ("" if letter else UNREAD),
            facts=facts,
        )

    def _letter(self, problem: Problem, text: str) -> tuple[str | None, str]:
        if self.scorer == "official":
            return official_letter(text), ""
        options = _options(problem)
        letter = can_infer(text.strip(), options)
        if letter is None and self.judge is not None:
            return can_infer(self.judge.extract(problem, text), options), "judge"
        return letter, ""

    def aggregate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return the four dimensions over all problems and over the complete ones, and the accuracies."""
        problems = by_problem(samples)
        complete = [answers for answers in problems if answers.complete]
        return {
            **four_dimensions(problems, total=max(NUM_PROBLEMS, len(problems))),
            **four_dimensions(complete, total=len(complete), ending="_complete"),
            **step_accuracies(problems),
            "num_complete": float(len(complete)),
            "num_incomplete": float(len(problems) - len(complete)),
            "num_unread": float(sum(sample.note == UNREAD for sample in samples)),
        }


def _facts(problem: Problem) -> Mapping[str, str]:
    """Return what joins and sorts a problem's rows."""
    published = {"ID": "ID", "key": "key", "concept": "knowledge concept"}
    facts = {name: problem.extra.get(column) for name, column in published.items()}
    missing = [published[name] for name, value in facts.items() if not value]
    if missing:
        raise ValueError(
            f"WeMath: {problem.place} has no {' and no '.join(missing)}. Needed: the published columns, which join the steps "
            f"of a problem. Load them into its extra, or remove the problem."
        )
    if not _KEY.fullmatch(str(facts["key"])):
        raise ValueError(
            f"WeMath: {problem.place} has the key {facts['key']!r}, but it must be like 2steps_1 or 3steps_multi. "
            f"Correct the row, or remove it."
        )
    return facts


def _options(problem: Problem) -> dict[str, str]:
    options = options_of(problem.extra.get("option") or "")
    if not options:
        raise ValueError(
            f"WeMath: {problem.place} has the option {problem.extra.get('option')!r}, but VLMEvalKit's rules need one like "
            f"'A. 4; B. 3'. Load the published column into its extra, or set scorer: official."
        )
    return options
