"""Judges responses: one verdict per response, in order, whatever the verifier is; and what verdicts come to.

A wrong answer is a verdict; a verifier that raises, or returns no usable verdict, is a bug that stops the run instead of
turning into a reward of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Problem, Verdict

MAX_LISTED = 10
"""How many refused gold answers a message shows."""


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
        _verify(verifier, problem, response)
        for problem, response in zip(problems, responses, strict=True)
    ]


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


def check_gold(verifier: Verifier, problems: Sequence[Problem], limit: int) -> None:
    """Give the gold answers of the first problems to the verifier, as responses: each must be correct.

    Args:
        verifier: judges.
        problems: a data set.
        limit: how many of them to check.

    Raises:
        ValueError: some gold answers are refused, or some problems cannot be judged at all; lists the first of them.
    """
    checked = [problems[index] for index in range(min(limit, len(problems)))]
    faults = [(problem, _gold_fault(verifier, problem)) for problem in checked]
    refused = [f"  {problem.place}: {fault}" for problem, fault in faults if fault]
    if refused:
        raise ValueError(
            f"verifier: {type(verifier).__name__} refuses {len(refused)} of the first {len(checked)} gold answers, so "
            f"that no completion could ever be right:\n"
            + "\n".join(refused[:MAX_LISTED])
            + "\nCorrect the answers, choose another verifier, or set verify_gold_problems=0."
        )


def _gold_fault(verifier: Verifier, problem: Problem) -> str:
    """Return why a problem's own answer is not accepted; nothing if it is."""
    try:
        verdict = _verify(verifier, problem, gold_response(problem))
    except ValueError as error:
        return str(error.__cause__)
    return "" if verdict.correct else verdict.reason


def _verify(verifier: Verifier, problem: Problem, response: str) -> Verdict:
    where = f"{type(verifier).__name__} on {problem.place}"
    try:
        verdict = verifier.verify(problem, response)
    except ValueError as error:
        message = str(error) if problem.place in str(error) else f"{problem.place}: {error}"
        raise ValueError(f"verifier: {type(verifier).__name__}: {message}") from error
    except Exception as error:
        raise RuntimeError(
            f"verifier: {where} raised {type(error).__name__}: {error}. A verifier judges any text; mend it."
        ) from error
    if not isinstance(verdict, Verdict) or not _is_finite(verdict.reward):
        raise RuntimeError(
            f"verifier: {where} returned {verdict!r}, but a Verdict with a finite reward is needed. What cannot be "
            f"judged is Verdict(reward=0.0, correct=False, valid=False)."
        )
    return verdict


def _is_finite(reward: Any) -> bool:
    return isinstance(reward, int | float) and math.isfinite(reward)
