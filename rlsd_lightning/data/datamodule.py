"""The LightningDataModule: streams prompts with privileged references as rollouts, and problems to the evaluators."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from rlsd_lightning.credit.advantages import GroupAdvantages
from rlsd_lightning.data.loader import RolloutLoader
from rlsd_lightning.data.overlength import OnTruncated, Overlength
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import ProblemSupply
from rlsd_lightning.types import Problem, RolloutBatch, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """The configuration's `rollout` section."""

    problems_per_step: int
    """P, over all ranks."""
    group_size: int
    """G, completions per problem."""
    sampling: Sampling
    """How completions are drawn in training."""
    share_prefix: bool = True
    """Compute a prompt once for all completions that share it."""
    max_row_tokens: int | None = None
    """Longest row of several completions; a group that is longer is split."""
    advantages: GroupAdvantages = field(default_factory=GroupAdvantages)
    """From the rewards of a group to one advantage per completion."""
    refill_groups: int = 0
    """Rounds in which problems whose completions all got the same reward are replaced by others; 0 = never."""
    on_truncated: OnTruncated = "keep"
    """What becomes of a completion that is cut off at the limit; see Overlength."""
    length_penalty_tokens: int = 0
    """Over this many tokens before the limit the reward falls linearly; 0 = no penalty."""
    length_penalty_weight: float = 1.0
    """By how much it falls at the limit."""
    overlap: bool = False
    """Make the next step's rollouts while a step trains; only with an engine that runs elsewhere."""
    max_policy_lag: int = 0
    """Optimizer steps that the policy may be ahead of the weights which sampled a step's completions."""

    def __post_init__(self) -> None:
        if self.max_policy_lag < 0:
            raise ValueError(
                f"rollout.max_policy_lag is {self.max_policy_lag}. Needed: 0 (rollouts of the present policy only) or "
                "more optimizer steps. Set it to 0."
            )

    @property
    def overlength(self) -> Overlength:
        """What becomes of completions at the limit."""
        return Overlength(
            on_truncated=self.on_truncated,
            penalty_tokens=self.length_penalty_tokens,
            penalty_weight=self.length_penalty_weight,
            max_completion_tokens=self.sampling.max_completion_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One benchmark: its problems, how answers to them are sampled, and the metric that scores them."""

    problems: Sequence[Problem]
    metric: Any
    """A torchmetrics.Metric: update(problems, responses), compute() -> dict[str, float]."""
    sampling: Sampling
    samples_per_problem: int = 1
    """Responses drawn for each problem."""
    batch_size: int = 64
    """Problems whose responses are sampled at a time."""
    prompt: str | None = None
    """Jinja template of the user's turn over `problem`; None for the run's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationBatch:
    """Problems of one rank. Every rank gets equally many, so some come once more to fill the last batch up."""

    problems: tuple[Problem, ...]
    counts: tuple[bool, ...]
    """False = the problem is another rank's, or this rank's earlier on: sampled to stay in step, then left out."""

    @property
    def counted(self) -> list[Problem]:
        """The problems whose responses count."""
        return self.of_counted(self.problems)

    def of_counted(self, items: Sequence[Any]) -> list[Any]:
        """Return those items, one per problem, that belong to problems which count."""
        return [item for item, counts in zip(items, self.counts, strict=True) if counts]


class RolloutDataModule(lightning.LightningDataModule):
    """Gives Lightning the loaders of training, evaluation and prediction.

    Args:
        supply: the training problems by step; None where only evaluation is asked for.
        collector: makes rollouts.
        rollout: how many and how long.
        evaluations: by name; one dataloader each, in this order.
    """

    def __init__(
        self,
        supply: ProblemSupply | None,
        collector: RolloutCollector,
        rollout: RolloutSettings,
        evaluations: Mapping[str, Evaluation],
    ) -> None:
        super().__init__()
        self.supply = supply
        self.collector = collector
        self.rollout = rollout
        self.evaluations = dict(evaluations)
        self._rollouts: RolloutLoader | None = None

    def leave_out(self, name: str, answered: Collection[str]) -> int:
        """Sample no responses to problems that have theirs already; return how many those are.

        Args:
            name: of the evaluation.
            answered: ids of problems.
        """
        evaluation = self.evaluations[name]
        kept = [i for i, p in enumerate(evaluation.problems) if p.id not in answered]
        remaining: Any = Subset(evaluation.problems, kept)  # type: ignore[arg-type]
        self.evaluations[name] = dataclasses.replace(evaluation, problems=remaining)
        return len(evaluation.problems) - len(kept)

    def train_dataloader(self) -> RolloutLoader:
        """Return the loader that makes rollouts as it goes."""
        assert self.trainer is not None
        assert self.supply is not None, "built without training problems"
        self._rollouts = RolloutLoader(
            self.supply,
            self.collector,
            self.rollout.sampling,
            num_steps=self.trainer.max_steps,
            num_micro_batches=self.trainer.accumulate_grad_batches,
            policy_version=lambda: self.trainer.global_step,
            forward_context=self.trainer.precision_plugin.forward_context,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            max_row_tokens=self.rollout.max_row_tokens,
            share_prefix=self.rollout.share_prefix,
            refill_rounds=self.rollout.refill_groups,
            overlap=self.rollout.overlap,
        )
        return self._rollouts

    def val_dataloader(self) -> list[DataLoader]:
        """Return one loader of problems per evaluation."""
        return [self._problem_loader(evaluation) for evaluation in self.evaluations.values()]

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader

    def teardown(self, stage: str) -> None:
        """End the thread that makes rollouts and the processes that judge when training has ended."""
        if stage == "fit":
            self._end_rollouts()
            self.collector.close()

    def on_exception(self, exception: BaseException) -> None:
        """End the thread that makes rollouts, on Ctrl-C too; Lightning tears nothing down after an error."""
        self._end_rollouts()

    def transfer_batch_to_device(
        self, batch: RolloutBatch | EvaluationBatch, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move rollouts to the device; problems hold no tensors and stay as they are."""
        return batch.to(device) if isinstance(batch, RolloutBatch) else batch

    def _end_rollouts(self) -> None:
        if self._rollouts is not None:
            self._rollouts.close()

    def _problem_loader(self, evaluation: Evaluation) -> DataLoader:
        assert self.trainer is not None
        indices = rank_indices(
            len(evaluation.problems), self.trainer.global_rank, self.trainer.world_size
        )
        return DataLoader(
            _Numbered(evaluation.problems),
            batch_size=evaluation.batch_size,
            sampler=indices,
            collate_fn=_as_batch,
        )


def rank_indices(num_problems: int, rank: int, world_size: int) -> list[int]:
    """Deal problems out to ranks, equally many to each; numbers from num_problems on are fill.

    A rank that sampled less than the others would leave them waiting where weights are gathered (ZeRO-3, FSDP).

    Args:
        num_problems: N.
        rank: whose share is asked for.
        world_size: how many ranks there are.

    Example:
        >>> [rank_indices(3, rank, world_size=2) for rank in range(2)]
        [[0, 2], [1, 3]]
    """
    per_rank = -(-num_problems // world_size)
    return list(range(rank, per_rank * world_size, world_size))


class _Numbered(Dataset[tuple[Problem, bool]]):
    """Problems by number, each with whether it counts; beyond the last the first ones come once more."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int) -> tuple[Problem, bool]:
        return self._problems[index % len(self._problems)], index < len(self._problems)


def _as_batch(items: Sequence[tuple[Problem, bool]]) -> EvaluationBatch:
    problems, counts = zip(*items, strict=True)
    return EvaluationBatch(problems=problems, counts=counts)
