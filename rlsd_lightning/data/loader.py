"""The train dataloader: makes a step's rollouts when the step begins, then hands them over in K micro-batches.

It has a length, because Lightning prefetches one batch from a loader without: training would then silently be one
policy version stale. Every batch carries the version that sampled it, and training checks it.

With `overlap` it makes the next step's rollouts in a thread while a step trains. The thread begins with a step and is
waited for at its end, before anything else happens there: whatever syncs weights, saves, evaluates or stops meets an
engine at rest, and one that is given weights at every step's end samples all rollouts of a step with one version.
What ranks do together (waking the engine, counting tokens) stays in the main thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from rlsd_lightning.data.ahead import Ahead
from rlsd_lightning.data.collate import (
    balance,
    collate,
    num_loss_tokens,
    oldest_version,
    split_groups,
)
from rlsd_lightning.data.refill import refilled
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import ProblemSupply
from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Rollout, RolloutBatch, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepRollouts:
    """What was collected for one step on this rank."""

    groups: list[list[Rollout]]
    metrics: dict[str, Mean]
    policy_version: int
    num_tokens: int
    """That count in the loss; once the ranks have met, those of all ranks."""
    num_completions: int
    """With such tokens; likewise."""


class RolloutLoader:
    """Yields `num_steps` x `num_micro_batches` RolloutBatches; sized, stateful, on-policy or one step off.

    Args:
        supply: which problems each step takes.
        collector: makes rollouts.
        sampling: how completions are drawn; its seed is that of the run, each step derives its own.
        num_steps: optimizer steps of the run.
        num_micro_batches: K, trainer.accumulate_grad_batches.
        policy_version: optimizer steps taken so far, asked when a step's rollouts are made.
        forward_context: entered while rollouts are made: the trainer's precision, so that sampling and training
            compute in the same numbers. In the main thread only: autocast holds for one thread, and an engine that
            may run beside training computes elsewhere.
        rank: this process.
        world_size: all processes; each takes problems_per_step / world_size problems of a step.
        max_row_tokens: see split_groups.
        share_prefix: see split_groups.
        refill_rounds: how often groups without signal are replaced within a step; 0 = never.
        overlap: make the next step's rollouts while a step trains; for engines that run elsewhere.
    """

    def __init__(
        self,
        supply: ProblemSupply,
        collector: RolloutCollector,
        sampling: Sampling,
        *,
        num_steps: int,
        num_micro_batches: int,
        policy_version: Callable[[], int],
        forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        rank: int = 0,
        world_size: int = 1,
        max_row_tokens: int | None = None,
        share_prefix: bool = True,
        refill_rounds: int = 0,
        overlap: bool = False,
    ) -> None:
        if supply.problems_per_step % world_size:
            raise ValueError(
                f"rollout.problems_per_step is {supply.problems_per_step}, which {world_size} processes cannot share "
                "evenly. Set it to a multiple of the number of processes."
            )
        self._supply = supply
        self._collector = collector
        self._sampling = sampling
        self._num_steps = num_steps
        self._num_micro_batches = num_micro_batches
        self._policy_version = policy_version
        self._forward_context = forward_context
        self._rank = rank
        self._world_size = world_size
        self._max_row_tokens = max_row_tokens
        self._share_prefix = share_prefix
        self._refill_rounds = refill_rounds
        self.overlap = overlap
        self._ahead: Ahead[_StepRollouts] = Ahead()
        self._awake = ExitStack()
        self._supply_before: dict[str, Any] | None = None
        self._steps_done = 0
        self._batches_of_step = 0

    def __len__(self) -> int:
        return self._num_steps * self._num_micro_batches

    def __iter__(self) -> Iterator[RolloutBatch]:
        for step in range(self._steps_done, self._num_steps):
            self._batches_of_step = 0
            rollouts = self._on_every_rank(step)
            if self.overlap and step + 1 < self._num_steps:
                self._begin(step + 1)
            for batch in self._cut(rollouts):
                self._batches_of_step += 1
                if self._batches_of_step == self._num_micro_batches:
                    self._steps_done, self._batches_of_step = step + 1, 0
                yield batch

    def wait(self) -> None:
        """Return once the next step's rollouts are there and the engine is at rest; the step itself raises what failed."""
        self._ahead.wait()
        self._awake.close()

    def close(self) -> None:
        """End the thread, as soon as the engine can be left off; rollouts that no step came for are dropped."""
        self._ahead.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of whole steps handed over, and where the supply stood before the next one.

        Rollouts that are ahead are not saved: a resumed run takes their problems again and samples anew.

        Raises:
            RuntimeError: in the middle of a step, from which no run could go on exactly.
        """
        if self._batches_of_step:
            raise RuntimeError(
                f"a checkpoint was asked for after {self._batches_of_step} of {self._num_micro_batches} micro-batches; "
                "accumulated gradients are not saved. Save at the end of an optimizer step."
            )
        before = self._supply_before
        supply = self._supply.state_dict() if before is None else before
        return {"steps_done": self._steps_done, "supply": supply}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the steps that the checkpoint has seen."""
        self._steps_done = state["steps_done"]
        self._supply.load_state_dict(state["supply"])

    def _on_every_rank(self, step: int) -> _StepRollouts:
        """Return this rank's rollouts of a step, once every rank has its own.

        Raises:
            EngineError: a rank's engine failed, here or elsewhere. No rank goes on, and all stand at the end of the step
                before, where a checkpoint can be saved.
        """
        error: EngineError | None = None
        try:
            rollouts = self._take_or_collect(step)
            counts = [rollouts.num_tokens, rollouts.num_completions, 0]
        except EngineError as raised:
            error, counts = raised, [0, 0, 1]
        num_tokens, num_completions, num_failed = _sum_over_ranks(counts, self._world_size)
        if num_failed:
            raise error or EngineError(
                f"engine: another rank's engine failed while rollouts of step {step + 1} were made; its own message says "
                "how. A step needs all ranks."
            )
        self._supply_before = None
        return replace(rollouts, num_tokens=num_tokens, num_completions=num_completions)

    def _take_or_collect(self, step: int) -> _StepRollouts:
        """Return a step's rollouts: those that were made ahead, or fresh ones at the start of a run."""
        if not self._ahead.has_begun:
            self._supply_before = self._supply.state_dict()
            with self._forward_context(), self._collector.awake():
                return self._collect(step, self._policy_version())
        self.wait()
        rollouts = self._ahead.take()
        return replace(rollouts, metrics=told_apart(rollouts.metrics))

    def _begin(self, step: int) -> None:
        """Have a step's rollouts made beside training."""
        self._supply_before = self._supply.state_dict()
        self._awake.enter_context(self._collector.awake())
        version = self._policy_version()
        self._ahead.begin(partial(self._collect, step, version, self._ahead))

    def _collect(
        self, step: int, version: int, ahead: Ahead[_StepRollouts] | None = None
    ) -> _StepRollouts:
        """Collect this rank's rollouts of a step.

        Args:
            step: counted from 0.
            version: of the policy at present.
            ahead: the thread beside training that this runs in; None in the main thread.
        """
        mine = self._supply.take(step)[self._rank :: self._world_size]
        sampling = replace(self._sampling, seed=step_seed(self._sampling.seed, step))
        collect = partial(self._collector.collect, sampling=sampling, ahead=ahead)
        if self._refill_rounds:
            spare = self._supply.spare(step, self._rank, self._world_size)
            groups, metrics = refilled(mine, collect, spare, self._refill_rounds)
        else:
            groups, metrics = collect(mine)
        shared = self._collector.engine.shares_policy_weights
        completions = [rollout.completion for group in groups for rollout in group]
        oldest = oldest_version(completions, version if shared else None)
        counts = [num_loss_tokens(rollout) for group in groups for rollout in group]
        return _StepRollouts(
            groups=groups,
            metrics=metrics,
            policy_version=oldest,
            num_tokens=sum(counts),
            num_completions=sum(count > 0 for count in counts),
        )

    def _cut(self, rollouts: _StepRollouts) -> list[RolloutBatch]:
        """Cut a step's rollouts into micro-batches."""
        units = split_groups(
            rollouts.groups, self._num_micro_batches, self._max_row_tokens, self._share_prefix
        )
        return [
            collate(
                part,
                policy_version=rollouts.policy_version,
                num_step_tokens=rollouts.num_tokens,
                num_step_completions=rollouts.num_completions,
                metrics={} if place else rollouts.metrics,
            )
            for place, part in enumerate(balance(units, self._num_micro_batches))
        ]


def told_apart(metrics: Mapping[str, Mean]) -> dict[str, Mean]:
    """Tell the times of a thread beside training as ahead/..., so that time/... adds up to what training took.

    time/... of these phases is 0, as what is not measured again would be logged as it was before.

    Args:
        metrics: of rollouts that were made ahead.

    Example:
        >>> told = told_apart({"time/rollout_s": Mean(2.0, 1), "rollout/accuracy": Mean(1.0, 2)})
        >>> {name: float(mean) for name, mean in told.items()}
        {'time/rollout_s': 0.0, 'rollout/accuracy': 0.5, 'ahead/rollout_s': 2.0}
    """
    told = dict(metrics)
    for name in [name for name in metrics if name.startswith("time/")]:
        told[f"ahead/{name.removeprefix('time/')}"] = metrics[name]
        told[name] = Mean(0.0, 1)
    return told


def step_seed(run_seed: int, step: int) -> int:
    """Return a step's sampling seed; distinct for distinct (run_seed, step) below 2^32 steps."""
    return (run_seed << 32) + step


def _sum_over_ranks(counts: Sequence[int], world_size: int) -> list[int]:
    if world_size == 1:
        return list(counts)
    device: Any = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    table = torch.tensor(counts, device=device)
    torch.distributed.all_reduce(table)
    return table.tolist()
