"""ZeroBench (arXiv:2502.09696): 100 questions with several samples each, and 334 subquestions of one step each.

Official: the code block on the benchmark's site (zerobench.github.io 5d0314d5), which asks for the answer in curly braces
and compares it as text. VLMEvalKit (e8e78f05): the gold answer anywhere in the braces. The two differ by 20 points on the
same responses, so a number is nothing without its scorer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import comb, sqrt

from rlsd_lightning.scoring import Benchmark, Judge, Sample, Score
from rlsd_lightning.scoring.intervals import mean, with_interval
from rlsd_lightning.scoring.samples import by_question
from rlsd_lightning.types import Problem

_BRACES = re.compile(r"\{([^}\n]*)(\}?)")
"""An opening brace and what stands behind it up to its closing brace, or up to the line's end: never read twice."""


def parsed_answer(text: str) -> str:
    r"""Return what stands in the last pair of curly braces on one line, in lower case; empty where there is none.

    Of nested braces the outer opening one and the inner closing one make a pair, as in the site's code.

    Example:
        >>> parsed_answer("{1}, no: {Two} because of {\n3}")
        'two'
        >>> parsed_answer(r"{\text{42}}")
        '\\text{42'
    """
    closed = [content for content, end in _BRACES.findall(text.lower()) if end]
    return closed[-1] if closed else ""


def in_braces(answer: str) -> str:
    r"""Return an answer that was taken out of tags or a box in the form that the rules read.

    Example:
        >>> in_braces("16:30"), in_braces(r"\text{north}")
        ('{16:30}', '\\text{north}')
    """
    return answer if "{" in answer else f"{{{answer}}}"


def is_official(parsed: str, gold: str) -> bool:
    """Whether a parsed answer equals the gold one but for case; blanks around the gold one alone do not count.

    Example:
        >>> is_official("queen of hearts", "Queen of hearts "), is_official(" 42 ", "42")
        (True, False)
    """
    gold = gold.strip()
    return parsed.lower() == gold.lower() and len(parsed) == len(gold)


def is_vlmevalkit(parsed: str, gold: str) -> bool:
    """Whether the gold answer stands anywhere in the parsed one.

    Example:
        >>> is_vlmevalkit("x = 25 cm", "25"), is_vlmevalkit("257", "25")
        (True, True)
    """
    return gold.strip().lower() in parsed.lower()


def pass_at(k: int, num_samples: int, num_correct: int) -> float:
    """Return the chance that at least one of k samples is right, drawn without replacement from those there are.

    pass@k = 1 - C(n - c, k) / C(n, k)   -- Chen et al., arXiv:2107.03374

    Args:
        k: samples drawn.
        num_samples: n, of the question.
        num_correct: c, of these.

    Returns:
        NaN where there are fewer than k samples.

    Example:
        >>> pass_at(2, num_samples=5, num_correct=1)
        0.4
    """
    if num_samples < k:
        return float("nan")
    draws = comb(num_samples, k)
    return (draws - comb(num_samples - num_correct, k)) / draws


def all_pass(k: int, num_samples: int, num_correct: int) -> float:
    """Return the chance that all of k samples are right: pass^k = C(c, k) / C(n, k), k of k reliability.

    Args: as pass_at.

    Example:
        >>> all_pass(2, num_samples=5, num_correct=4)
        0.6
    """
    return comb(num_correct, k) / comb(num_samples, k) if num_samples >= k else float("nan")


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of a mean: sqrt(sum (a_i - a)^2 / (N - 1) / N), NaN for fewer than two values.

    Example:
        >>> standard_error([0.0, 1.0])
        0.5
    """
    if len(values) < 2:
        return float("nan")
    centre = mean(values)
    return sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


def subquestion_numbers(shares: Mapping[str, float]) -> dict[str, float]:
    """Return what is told of subquestions: each main question counts once, however many parts it has.

    a = (1 / N) sum_i n_i / N_i over main questions i with N_i parts, n_i of them right; beside it, all parts alike.

    Args:
        shares: by id of the subquestion ("17_2"), the share of its samples that is right.

    Example:
        >>> numbers = subquestion_numbers({"1_1": 1.0, "2_1": 1.0, "2_2": 0.0})
        >>> numbers["subquestions"], numbers["subquestions_se"], numbers["subquestions_correct"]
        (0.75, 0.25, 2.0)
    """
    by_main: dict[str, list[float]] = {}
    for id_, share in shares.items():
        by_main.setdefault(id_.partition("_")[0], []).append(share)
    per_main = [mean(parts) for parts in by_main.values()]
    return {
        **with_interval("subquestions", per_main),
        "subquestions_se": standard_error(per_main),
        "subquestions_micro": mean(list(shares.values())),
        "subquestions_correct": float(sum(shares.values())),
        "num_subquestions": float(len(shares)),
    }


class ZeroBench(Benchmark):
    """Scores ZeroBench: pass@k and pass^k of main questions, the share of subquestions that is right.

    A question whose id has a "_" ("17_2") is a subquestion of the main question before it ("17"). Numbers: `pass@k`,
    `pass^k` for k up to samples_per_problem, means over main questions; `subquestions`, the mean over main questions of
    the share of each one's subquestions that is right, with `subquestions_se`; `subquestions_micro`, the share of all
    subquestions, and `subquestions_correct`, their number. Of several samples of a subquestion the mean counts.

    Args: as Benchmark; samples_per_problem is 5 on the benchmark's site.
    """

    headline = "pass@1"

    def __init__(
        self,
        *,
        scorer: str = "official",
        extract: str | Sequence[str] = "none",
        samples_per_problem: int = 5,
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

    def text_to_score(self, step: str, response: str) -> str:
        """Put an answer that was taken out of tags or a box into braces, where the rules look for it."""
        text = super().text_to_score(step, response)
        is_taken_out = step == "answer_tag_or_box" and text.strip() != response.strip()
        return in_braces(text) if is_taken_out else text

    def score(self, problem: Problem, text: str) -> Score:
        """Compare what stands in braces with the gold answer; without braces the judge, if any, is asked."""
        if not problem.answer.strip():
            raise ValueError(
                f"{problem.place} has no answer. Needed: the published question_answer. Add it, or remove the problem."
            )
        parsed, note = parsed_answer(text), ""
        if not parsed and self.judge is not None:
            parsed, note = self.judge.extract(problem, text).strip().lower(), "judge"
        rule = is_official if self.scorer == "official" else is_vlmevalkit
        return Score(correct=rule(parsed, problem.answer), prediction=parsed or None, note=note)

    def aggregate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return pass@k and pass^k of main questions, and the shares of subquestions."""
        rights = {id_: [s.correct for s in group] for id_, group in by_question(samples).items()}
        counts = [(len(right), sum(right)) for id_, right in rights.items() if "_" not in id_]
        shares = {id_: mean(right) for id_, right in rights.items() if "_" in id_}
        found: dict[str, float] = {}
        for k in range(1, self.samples_per_problem + 1):
            found |= with_interval(f"pass@{k}", [pass_at(k, n, c) for n, c in counts])
            found |= with_interval(f"pass^{k}", [all_pass(k, n, c) for n, c in counts])
        return found | {"num_questions": float(len(counts))} | subquestion_numbers(shares)
