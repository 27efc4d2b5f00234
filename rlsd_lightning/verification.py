"""Judges responses: one verdict per response, in order, whatever the verifier is; and what verdicts come to.

A wrong answer is a verdict; a verifier that raises, or returns no usable verdict, is a bug that stops the run instead of
turning into a reward of 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rlsd_lightning.interfaces import Verifier, verify_quickly
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Problem, Verdict

_Answer = TypeVar("_Answer")
GoldJudge = Callable[[Verifier, Sequence[Problem]], list[Verdict | ValueError]]
"""Says of each problem's gold answer what the verifier says of it, or the fault that it found in the problem."""
MAX_LISTED = 10
"""How many responses a message shows."""
_MAX_LISTED_GOLD = 100
"""How many gold answers a message shows."""


def verify_batch(
    verifier: Verifier, problems: Sequence[Problem], responses: Sequence[str]
) -> list[Verdict]:
    """Return one verdict per response, in the order of the responses.

    Args:
        verifier: judges.
        problems: one per response, the same one several times if it has several. [B]
        responses: completions' texts. [B]

    Raises:
        ValueError: there are more problems than responses or the other way round, or the verifier found a fault in
            a problem (a tolerance that is no number, a kind without verifier).
        RuntimeError: the verifier raised anything else, or did not return a Verdict with a finite reward.
    """
    check_paired(problems, responses)
    return [
        _usable(verifier, problem, _guarded(verifier, verifier.verify, problem, response))
        for problem, response in zip(problems, responses, strict=True)
    ]


def verify_at_once(verifier: Verifier, problem: Problem, response: str) -> Verdict | None:
    """Return the verdict if the verifier has it at once; None if it would have to work (interfaces.JudgesQuickly).

    Args:
        verifier: judges.
        problem: what was asked.
        response: a completion's text.

    Raises:
        ValueError: as verify_batch.
        RuntimeError: as verify_batch.
    """
    ask = functools.partial(verify_quickly, verifier)
    verdict = _guarded(verifier, ask, problem, response)
    return None if verdict is None else _usable(verifier, problem, verdict)


def check_paired(problems: Sequence[Problem], responses: Sequence[str]) -> None:
    """Refuse problems and responses that do not pair up.

    Args:
        problems: one per response. [B]
        responses: completions' texts. [B]

    Raises:
        ValueError: there are more of the ones than of the others.
    """
    if len(problems) != len(responses):
        raise ValueError(
            f"verify_batch: got {len(problems)} problems and {len(responses)} responses, but needs one problem per "
            f"response. Repeat a problem for each of its responses."
        )


def gold_response(problem: Problem) -> str:
    """Return the gold answer in the form of a response.

    Args:
        problem: whose answer.

    Example:
        >>> gold_response(Problem(id="1", prompt="2+2?", answer="4"))
        '<thought></thought><answer>4</answer>'
    """
    return f"<thought></thought><answer>{problem.answer}</answer>"


def verdict_metrics(verdicts: Sequence[Verdict]) -> dict[str, Mean]:
    """Describe verdicts: reward, accuracy and parts over those that were judged, and the share that was not.

    Which parts are listed does not depend on what could be judged, so that every rank reports the same names.

    Args:
        verdicts: of one step.

    Example:
        >>> verdicts = [Verdict(1.0, True), Verdict(0.0, False), Verdict(0.0, False, valid=False)]
        >>> {name: round(float(mean), 3) for name, mean in verdict_metrics(verdicts).items()}
        {'rollout/reward_mean': 0.5, 'rollout/accuracy': 0.5, 'rollout/invalid_fraction': 0.333}
    """
    judged = [verdict for verdict in verdicts if verdict.valid]
    metrics = {
        "rollout/reward_mean": Mean(sum(v.reward for v in judged), len(judged)),
        "rollout/accuracy": Mean(sum(v.correct for v in judged), len(judged)),
        "rollout/invalid_fraction": Mean(len(verdicts) - len(judged), len(verdicts)),
    }
    for name in sorted({part for verdict in verdicts for part in verdict.parts}):
        values = [verdict.parts[name] for verdict in judged if name in verdict.parts]
        metrics[f"rollout/part_{name}"] = Mean(sum(values), len(values))
    return metrics


def judge_gold(verifier: Verifier, problems: Sequence[Problem]) -> list[Verdict | ValueError]:
    """Return what the verifier says of each problem's gold answer, or the fault that it found in the problem.

    Args:
        verifier: judges.
        problems: whose answers. [P]

    Raises:
        RuntimeError: the verifier raised anything else, or did not return a Verdict with a finite reward.
    """
    found: list[Verdict | ValueError] = []
    for problem in problems:
        try:
            found += verify_batch(verifier, [problem], [gold_response(problem)])
        except ValueError as fault:
            found.append(fault)
    return found


FULL_REWARD = 1.0
"""What a verifier pays for an answer that nothing is wrong with."""


def check_gold(
    verifier: Verifier,
    problems: Sequence[Problem],
    limit: int,
    judge: GoldJudge = judge_gold,
) -> None:
    """Give the gold answers of the first problems to the verifier, as responses: each must be correct and paid in full.

    Args:
        verifier: judges.
        problems: a data set.
        limit: how many of them to check.
        judge: judge_gold, or that of a pool, where one that hangs costs no more than its time limit.

    Raises:
        ValueError: some gold answers are refused, or cannot be judged at all; lists them by file and line.
    """
    checked = [problems[index] for index in range(min(limit, len(problems)))]
    refused, unjudgeable = gold_faults(verifier, checked, judge)
    if not refused and not unjudgeable:
        return
    name, of_all = type(verifier).__name__, f"of the first {len(checked)} gold answers"
    why = "so that no completion could ever be right, or be paid in full"
    raise ValueError(
        _listed(f"verifier: {name} refuses {len(refused)} {of_all}, {why}:", refused)
        + _listed(f"verifier: {name} cannot judge {len(unjudgeable)} {of_all}:", unjudgeable)
        + "Correct these answers, choose another verifier, or set verify_gold_problems=0."
    )


def gold_faults(
    verifier: Verifier, problems: Sequence[Problem], judge: GoldJudge = judge_gold
) -> tuple[list[str], list[str]]:
    """Return what is wrong with the gold answers of problems: those refused or not paid in full, those not judged.

    Args:
        verifier: judges.
        problems: whose answers. [P]
        judge: see check_gold.
    """
    refused, unjudgeable = [], []
    for problem, found in zip(problems, judge(verifier, problems), strict=True):
        if isinstance(found, ValueError):
            unjudgeable.append(_fault_by_place(verifier, found))
        elif not found.valid:
            unjudgeable.append(f"{problem.place}: {found.reason}")
        elif not found.correct:
            refused.append(f"{problem.place}: {found.reason}")
        elif found.reward < FULL_REWARD - 1e-9:
            parts = ", ".join(f"{name} {value:g}" for name, value in found.parts.items())
            refused.append(
                f"{problem.place}: right, but paid {found.reward:g} ({parts or found.reason})"
            )
    return refused, unjudgeable


def _fault_by_place(verifier: Verifier, fault: ValueError) -> str:
    """Return a fault in a problem in words that begin with the problem's place."""
    return str(fault).removeprefix(f"verifier: {type(verifier).__name__}: ")


def _listed(heading: str, lines: Sequence[str]) -> str:
    """Return a heading and lines under it; nothing without lines."""
    if not lines:
        return ""
    num_left_out = max(0, len(lines) - _MAX_LISTED_GOLD)
    left_out = [f"and {num_left_out} more"] if num_left_out else []
    return "\n  ".join([heading, *lines[:_MAX_LISTED_GOLD], *left_out]) + "\n"


def _guarded(
    verifier: Verifier, ask: Callable[[Problem, str], _Answer], problem: Problem, response: str
) -> _Answer:
    """Ask a verifier; tell a fault that it finds in the problem from a fault of its own."""
    try:
        return ask(problem, response)
    except ValueError as error:
        message = str(error) if problem.place in str(error) else f"{problem.place}: {error}"
        raise ValueError(f"verifier: {type(verifier).__name__}: {message}") from error
    except Exception as error:
        raise RuntimeError(
            f"verifier: {type(verifier).__name__} on {problem.place} raised {type(error).__name__}: {error}. A verifier "
            f"judges any text; mend it."
        ) from error


def _usable(verifier: Verifier, problem: Problem, verdict: Any) -> Verdict:
    """Return a verdict if it is one."""
    if not isinstance(verdict, Verdict) or not _is_finite(verdict.reward):
        raise RuntimeError(
            f"verifier: {type(verifier).__name__} on {problem.place} returned {verdict!r}, but a Verdict with a finite "
            f"reward is needed. What cannot be judged is Verdict(reward=0.0, correct=False, valid=False)."
        )
    return verdict


def _is_finite(reward: Any) -> bool:
    return isinstance(reward, int | float) and math.isfinite(reward)
