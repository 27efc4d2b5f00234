"""Refills groups without signal: where all rewards of a group are equal, another problem takes its place.

Dynamic sampling as in DAPO (arXiv:2503.14476), bounded: after `max_rounds` rounds the groups that are still flat stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from rlsd_lightning.metrics import Mean, added
from rlsd_lightning.types import Problem, Rollout

Groups = list[list[Rollout]]
Collect = Callable[[Sequence[Problem]], tuple[Groups, dict[str, Mean]]]


def refilled(
    problems: Sequence[Problem],
    collect: Collect,
    spare: Iterator[Problem],
    max_rounds: int,
) -> tuple[Groups, dict[str, Mean]]:
    """Collect a step's groups, and replace the flat ones as long as rounds are left.

    Args:
        problems: of the step on this rank. [P]
        collect: makes one group per problem.
        spare: problems that the step has not taken; where they run out, the flat groups stay.
        max_rounds: at most so many times.

    Returns:
        P groups in the order of the problems, and the metrics of everything that was sampled.
    """
    groups, metrics = collect(problems)
    num_refilled = num_rounds = 0
    for _ in range(max_rounds):
        flat = [place for place, group in enumerate(groups) if is_flat(group)]
        instead = list(islice(spare, len(flat)))
        if not instead:
            break
        fresh, more = collect(instead)
        metrics = _add(metrics, more)
        num_rounds += 1
        for group in fresh:
            if not is_flat(group):
                groups[flat.pop(0)] = group
                num_refilled += 1
    return groups, metrics | {
        "rollout/refilled_fraction": Mean(num_refilled, len(groups)),
        "rollout/refill_rounds": Mean(num_rounds, 1),
    }


def is_flat(group: Sequence[Rollout]) -> bool:
    """Say whether a group teaches nothing: no completion of it has an advantage."""
    return all(rollout.advantage == 0.0 for rollout in group)


def _add(metrics: dict[str, Mean], more: dict[str, Mean]) -> dict[str, Mean]:
    """Add a round's metrics: means over all that was sampled, times as their sum."""
    return {
        name: Mean(mean.total, 1) if name.startswith("time/") else mean
        for name, mean in added(metrics, more).items()
    }
