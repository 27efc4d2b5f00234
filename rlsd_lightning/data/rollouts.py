"""From problems to rollouts: prompts, completions, verdicts, advantages. One station of the data's way per line."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlsd_lightning.credit import group_advantages
from rlsd_lightning.interfaces import CreditAssigner, RolloutEngine, Verifier
from rlsd_lightning.metrics import Mean
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.stopwatch import Stopwatch
from rlsd_lightning.types import Completion, Problem, Rollout, Sampling, Verdict
from rlsd_lightning.verification import verdict_metrics, verify_batch


class RolloutCollector:
    """Collects the rollouts of one optimizer step on one rank.

    Args:
        engine: samples completions.
        encoder: renders problems as the student's and the teacher's prompts.
        verifier: judges responses.
        credit: says whether the teacher's view is needed at present.
        group_size: G, completions per problem.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        encoder: PromptEncoder,
        verifier: Verifier,
        credit: CreditAssigner,
        group_size: int,
    ) -> None:
        if group_size < 2:
            raise ValueError(
                f"rollout.group_size is {group_size}, so every advantage would be 0. Set it to 2 or more "
                "(RLSD's launch script: 8)."
            )
        self.engine = engine
        self.encoder = encoder
        self.verifier = verifier
        self.credit = credit
        self.group_size = group_size

    def collect(
        self, problems: Sequence[Problem], sampling: Sampling
    ) -> tuple[list[list[Rollout]], dict[str, Mean]]:
        """Return one group of rollouts per problem, and what was measured on the way."""
        watch = Stopwatch()
        with watch.phase("rollout"):
            students = [self.encoder.student(problem) for problem in problems]
            self.engine.wake()
            completions = self.engine.generate(students, sampling, self.group_size)
            self.engine.sleep()
        with watch.phase("verify"):
            verdicts = self._judge(problems, completions)
        with watch.phase("encode_teacher"):
            needed = self.credit.needs_teacher
            teachers = [self.encoder.teacher(p) if needed else None for p in problems]
        advantages = _advantages(verdicts)
        groups = [
            [
                Rollout(
                    problem=problem,
                    student=student,
                    teacher=teacher,
                    completion=completion,
                    verdict=verdict,
                    advantage=advantage,
                )
                for completion, verdict, advantage in zip(*members, strict=True)
            ]
            for problem, student, teacher, *members in zip(
                problems, students, teachers, completions, verdicts, advantages, strict=True
            )
        ]
        return groups, watch.read() | rollout_metrics(groups)

    def _judge(
        self, problems: Sequence[Problem], completions: list[list[Completion]]
    ) -> list[list[Verdict]]:
        asked = [problem for problem in problems for _ in range(self.group_size)]
        responses = [completion.text for group in completions for completion in group]
        verdicts = verify_batch(self.verifier, asked, responses)
        size = self.group_size
        return [verdicts[i : i + size] for i in range(0, len(verdicts), size)]


def _advantages(verdicts: list[list[Verdict]]) -> list[list[float]]:
    rewards = torch.tensor([[v.reward for v in group] for group in verdicts], dtype=torch.float64)
    valid = torch.tensor([[v.valid for v in group] for group in verdicts])
    return group_advantages(rewards, valid=valid).tolist()


def rollout_metrics(groups: Sequence[Sequence[Rollout]]) -> dict[str, Mean]:
    """Describe a step's rollouts: rewards, lengths, how many were cut off, how many groups teach nothing."""
    rollouts = [rollout for group in groups for rollout in group]
    lengths = [len(r.completion.token_ids) for r in rollouts]
    truncated = sum(r.completion.finish_reason == "length" for r in rollouts)
    flat = sum(all(r.advantage == 0.0 for r in group) for group in groups)
    return {
        **verdict_metrics([r.verdict for r in rollouts]),
        "rollout/completion_tokens_mean": Mean(sum(lengths), len(lengths)),
        "rollout/completion_tokens_max": Mean(max(lengths), 1),
        "rollout/truncated_fraction": Mean(truncated, len(rollouts)),
        "rollout/zero_variance_fraction": Mean(flat, len(groups)),
    }
