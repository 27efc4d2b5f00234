"""The train dataloader: makes a step's rollouts when the step begins, then hands them over in K micro-batches.

It has a length, because Lightning prefetches one batch from a loader without: training would then silently be one
policy version stale. Every batch carries the version that sampled it, and training checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from rlsd_lightning.data.collate import balance, collate, num_loss_tokens, split_groups
from rlsd_lightning.data.refill import refilled
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import ProblemSupply
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Rollout, RolloutBatch, Sampling


class RolloutLoader:
    """Yields `num_steps` x `num_micro_batches` RolloutBatches; sized, stateful, on-policy.

    Args:
        supply: which problems each step takes.
        collector: makes rollouts.
        sampling: how completions are drawn; its seed is that of the run, each step derives its own.
        num_steps: optimizer steps of the run.
        num_micro_batches: K, trainer.accumulate_grad_batches.
        policy_version: optimizer steps taken so far, asked when a step's rollouts are made.
        forward_context: entered while rollouts are made: the trainer's precision, so that sampling and training
            compute in the same numbers.
        rank: this process.
        world_size: all processes; each takes problems_per_step / world_size problems of a step.
        max_row_tokens: see split_groups.
        share_prefix: see split_groups.
        refill_rounds: how often groups without signal are replaced within a step; 0 = never.
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
        self._steps_done = 0
        self._batches_of_step = 0

    def __len__(self) -> int:
        return self._num_steps * self._num_micro_batches

    def __iter__(self) -> Iterator[RolloutBatch]:
        for step in range(self._steps_done, self._num_steps):
            self._batches_of_step = 0
            for batch in self._make_step(step):
                self._batches_of_step += 1
                if self._batches_of_step == self._num_micro_batches:
                    self._steps_done, self._batches_of_step = step + 1, 0
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the number of whole steps handed over, and where the supply stands.

        Raises:
            RuntimeError: in the middle of a step, from which no run could go on exactly.
        """
        if self._batches_of_step:
            raise RuntimeError(
                f"a checkpoint was asked for after {self._batches_of_step} of {self._num_micro_batches} micro-batches; "
                "accumulated gradients are not saved. Save at the end of an optimizer step."
            )
        return {"steps_done": self._steps_done, "supply": self._supply.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the steps that the checkpoint has seen."""
        self._steps_done = state["steps_done"]
        self._supply.load_state_dict(state["supply"])

    def _make_step(self, step: int) -> list[RolloutBatch]:
        with self._forward_context(), self._collector.awake():
            groups, metrics = self._collect(step)
        units = split_groups(
            groups, self._num_micro_batches, self._max_row_tokens, self._share_prefix
        )
        counts = [num_loss_tokens(rollout) for group in groups for rollout in group]
        num_tokens, num_completions = _sum_over_ranks(
            [sum(counts), sum(count > 0 for count in counts)], self._world_size
        )
        return [
            collate(
                part,
                policy_version=self._policy_version(),
                num_step_tokens=num_tokens,
                num_step_completions=num_completions,
                metrics={} if place else metrics,
            )
            for place, part in enumerate(balance(units, self._num_micro_batches))
        ]

    def _collect(self, step: int) -> tuple[list[list[Rollout]], dict[str, Mean]]:
        """Return this rank's groups of a step."""
        mine = self._supply.take(step)[self._rank :: self._world_size]
        sampling = replace(self._sampling, seed=step_seed(self._sampling.seed, step))
        collect = partial(self._collector.collect, sampling=sampling)
        if not self._refill_rounds:
            return collect(mine)
        spare = self._supply.spare(step, self._rank, self._world_size)
        return refilled(mine, collect, spare, self._refill_rounds)


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
