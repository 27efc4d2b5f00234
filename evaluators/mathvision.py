"""MATH-Vision (arXiv:2402.14804): 3,040 competition problems on pictures, by subject and by level.

Official (mathllm/MATH-V a1f5cc3a): the answer is read by rules, and equals the gold letter, its option's text, or the gold
number to two decimals. Eleven gold answers cannot be met, so that the ceiling is about 99.6 %. VLMEvalKit (e8e78f05): its option
rules, exact numbers, else its judge; it tells no levels, which are told here all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlsd_lightning.evaluators import mathvision_rules, mathvision_vlmevalkit
from rlsd_lightning.evaluators.vlmevalkit import can_infer
from rlsd_lightning.scoring import Benchmark, Sample, Score
from rlsd_lightning.scoring.intervals import mean, with_interval
from rlsd_lightning.scoring.samples import by_question
from rlsd_lightning.types import Problem

FIELDS = ("subject", "level")
"""Published fields by whose values accuracy is told."""


def options_of(problem: Problem) -> dict[str, str]:
    """Return a problem's option texts by letter; none for a free-form question.

    Raises:
        ValueError: the gold answer is not one of the letters.

    Example:
        >>> options_of(Problem(id="1", prompt="?", answer="B", extra={"options": ["82", "83"]}))
        {'A': '82', 'B': '83'}
    """
    texts = problem.extra.get("options") or []
    options = {chr(ord("A") + place): text for place, text in enumerate(texts)}
    if options and problem.answer not in options:
        raise ValueError(
            f"MathVision: {problem.place} has {len(options)} options, but its answer is {problem.answer!r}; it must be one of "
            f"{', '.join(options)}. Set the answer to the right option's letter, or leave the options out."
        )
    return options


def official_score(problem: Problem, text: str) -> Score:
    r"""Judge a response as MATH-V's script does.

    Raises:
        ValueError: the gold answer is not one of the letters.

    Example:
        >>> asked = Problem(id="1", prompt="?", answer="B", extra={"options": ["82", "83"]})
        >>> [official_score(asked, text).correct for text in ("B", "It is (B).", r"\boxed{83.0}", "B 83")]
        [True, True, True, False]
    """
    answer = mathvision_rules.official_answer(text)
    golds = (problem.answer, options_of(problem).get(problem.answer, ""))
    correct = any(mathvision_rules.is_equal(gold, answer) for gold in golds)
    return Score(correct=correct, prediction=answer)


def vlmevalkit_score(problem: Problem, text: str) -> Score:
    r"""Judge a response as VLMEvalKit's rules do; without a prediction where it would ask its judge.

    Raises:
        ValueError: the gold answer is not one of the letters.

    Example:
        >>> vlmevalkit_score(Problem(id="1", prompt="?", answer="60"), r"\boxed{6\times 10}").correct
        True
        >>> vlmevalkit_score(Problem(id="1", prompt="?", answer="60"), "It is 60.")
        Score(correct=False, prediction=None, note='', facts={})
    """
    options = options_of(problem)
    if options:
        letter = can_infer(text, options)
        return Score(correct=letter == problem.answer, prediction=letter)
    correct = mathvision_vlmevalkit.is_equal(text, problem.answer)
    return Score(correct=correct, prediction=text if correct else None)


class MathVision(Benchmark):
    """Scores MathVision: `accuracy`, and accuracy by subject, by level, and by both.

    `accuracy/algebra`, `accuracy/level1`, `accuracy/algebra/level1`, as far as problems have these fields. Of several samples of
    a question the mean counts.

    Args: as Benchmark. The official scorer asks no judge.

    Example:
        >>> metric = MathVision()
        >>> asked = Problem(id="1", prompt="?", answer="60", extra={"options": [], "level": 2, "subject": "arithmetic"})
        >>> metric.update([asked], ["The answer is 60.004"])
        >>> metric.compute()["accuracy/arithmetic/level2"]
        1.0
    """

    def score(self, problem: Problem, text: str) -> Score:
        """Read the answer by the scorer's rules, or by VLMEvalKit's judge where they read none, and compare it."""
        facts = {field: problem.extra[field] for field in FIELDS if field in problem.extra}
        if self.scorer == "official":
            return replace(official_score(problem, text), facts=facts)
        found = vlmevalkit_score(problem, text)
        if found.prediction is None and self.judge is not None:
            said = self.judge.extract(problem, text)
            found = replace(vlmevalkit_score(problem, said), note="judge")
        return replace(found, facts=facts)

    def aggregate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return accuracy over all questions, and over those of each subject, level, and subject at a level."""
        shares: list[float] = []
        groups: dict[str, list[float]] = {}
        for asked in by_question(samples).values():
            shares.append(mean([sample.correct for sample in asked]))
            for name in group_names(asked[0].facts):
                groups.setdefault(f"accuracy/{name}", []).append(shares[-1])
        return {
            **with_interval("accuracy", shares),
            **{name: mean(groups[name]) for name in sorted(groups)},
        }


def group_names(facts: dict[str, object]) -> list[str]:
    """Return the groups that a question belongs to.

    Example:
        >>> group_names({"subject": "algebra", "level": 1})
        ['algebra', 'level1', 'algebra/level1']
    """
    names = [str(facts["subject"])] if "subject" in facts else []
    names += [f"level{facts['level']}"] if "level" in facts else []
    return [*names, "/".join(names)] if len(names) > 1 else names
