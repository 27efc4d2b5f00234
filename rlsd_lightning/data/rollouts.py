"""From problems to rollouts: prompts, completions, verdicts, advantages. One station of the data's way per line."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.credit import group_advantages
from rlsd_lightning.credit.spans import span_mask
from rlsd_lightning.data.ahead import Ahead
from rlsd_lightning.data.overlength import Overlength
from rlsd_lightning.data.refill import is_flat
from rlsd_lightning.data.teacher_views import contrast_prompts, teacher_prompts
from rlsd_lightning.interfaces import (
    CreditAssigner,
    RolloutEngine,
    StreamsCompletions,
    Verifier,
    awake,
    ever_asks_teacher,
    needs_of,
)
from rlsd_lightning.metrics import Mean
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.records import decoder, token_pieces
from rlsd_lightning.stopwatch import Stopwatch
from rlsd_lightning.types import Completion, Problem, Prompt, Rollout, Sampling, Verdict
from rlsd_lightning.verification import verdict_metrics, verify_batch
from rlsd_lightning.verifier_pool import VerifierPool


class RolloutCollector:
    """Collects the rollouts of one optimizer step on one rank.

    Args:
        engine: samples completions.
        encoder: renders problems as the student's and the teacher's prompts.
        verifier: judges responses.
        credit: says whether the teacher's view is needed, and what the teacher reads.
        group_size: G, completions per problem.
        advantages: from the rewards of groups.
        overlength: what becomes of completions at the limit.
        pool: processes that judge; None where this one does. The collector's own from now on.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        encoder: PromptEncoder,
        verifier: Verifier,
        credit: CreditAssigner,
        group_size: int,
        advantages: Callable[..., Tensor] = group_advantages,
        overlength: Overlength | None = None,
        pool: VerifierPool | None = None,
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
        self.needs = needs_of(credit)
        self._decode = decoder(encoder.tokenizer) if self.needs.spans else None
        self.group_size = group_size
        self.advantages = advantages
        self.overlength = overlength or Overlength()
        self.pool = pool

    def collect(
        self, problems: Sequence[Problem], sampling: Sampling, ahead: Ahead[Any] | None = None
    ) -> tuple[list[list[Rollout]], dict[str, Mean]]:
        """Return one group of rollouts per problem, and what was measured on the way.

        The engine must be awake: see `awake`. Draws from no global random generator.

        Args:
            problems: [P]
            sampling: how completions are drawn.
            ahead: the thread beside training that this runs in, for a later step than the one being trained; None in
                the main thread. Ahead, the teacher's view is made if the method may ever ask for it, as what its schedule
                says of that step is not known yet.

        Raises:
            AbandonedError: nobody waits for them any more.
        """
        if ahead is not None:
            ahead.check_wanted()
        watch = Stopwatch()
        with watch.phase("rollout"):
            students = [self.encoder.student(problem) for problem in problems]
        if self.pool is not None and isinstance(self.engine, StreamsCompletions):
            completions, verdicts = self._generate_and_judge(
                self.engine, self.pool, problems, students, sampling, watch, ahead
            )
        else:
            with watch.phase("rollout"):
                completions = self._generate(students, sampling, ahead)
            with watch.phase("verify"):
                verdicts = self._judge(problems, completions)
        verdicts = [
            [self.overlength.penalised(*pair) for pair in zip(*group, strict=True)]
            for group in zip(verdicts, completions, strict=True)
        ]
        with watch.phase("encode_teacher"):
            teachers, contrasts = self._teacher_views(
                problems, students, completions, verdicts, is_ahead=ahead is not None
            )
        advantages = self._advantages(verdicts)
        groups = [
            [
                Rollout(
                    problem=problem,
                    student=student,
                    teacher=teacher,
                    contrast=contrast,
                    completion=completion,
                    verdict=verdict,
                    advantage=advantage,
                    span=self._span(completion),
                    every_completion=self.needs.every_completion,
                    masked=self.overlength.masks(completion),
                )
                for completion, verdict, advantage in zip(*members, strict=True)
            ]
            for problem, student, teacher, contrast, *members in zip(
                problems,
                students,
                teachers,
                contrasts,
                completions,
                verdicts,
                advantages,
                strict=True,
            )
        ]
        judging = self.pool.read_metrics() if self.pool is not None else {}
        return groups, watch.read() | rollout_metrics(groups) | judging

    def awake(self) -> AbstractContextManager[None]:
        """Keep the engine awake for all calls of `collect` in a step.

        Waking may be collective, and with refilling the ranks collect different numbers of times.
        """
        return awake(self.engine)

    def close(self) -> None:
        """End the processes that judge; another step would start them again."""
        if self.pool is not None:
            self.pool.close()

    def _teacher_views(
        self,
        problems: Sequence[Problem],
        students: Sequence[Prompt],
        completions: list[list[Completion]],
        verdicts: list[list[Verdict]],
        is_ahead: bool,
    ) -> tuple[list[Prompt | None], list[Prompt | None]]:
        """Return what the teacher reads of each problem, and that with a wrong reference; None where not needed."""
        nothing: list[Prompt | None] = [None] * len(problems)
        is_asked = ever_asks_teacher(self.credit) if is_ahead else self.credit.needs_teacher
        if not is_asked:
            return nothing, nothing
        teachers = teacher_prompts(
            self.encoder, self.needs.view, problems, students, completions, verdicts
        )
        contrasts = contrast_prompts(self.encoder, problems) if self.needs.contrast else nothing
        return teachers, [*contrasts]

    def _span(self, completion: Completion) -> tuple[bool, ...] | None:
        """Say which tokens lie inside the thought, where the method asks."""
        if self._decode is None:
            return None
        return tuple(span_mask(token_pieces(self._decode, completion.token_ids)))

    def _judge(
        self, problems: Sequence[Problem], completions: list[list[Completion]]
    ) -> list[list[Verdict]]:
        asked = [problem for problem in problems for _ in range(self.group_size)]
        responses = [completion.text for group in completions for completion in group]
        judge = verify_batch if self.pool is None else self.pool.verify_batch
        return self._grouped(judge(self.verifier, asked, responses))

    def _generate(
        self, students: Sequence[Prompt], sampling: Sampling, ahead: Ahead[Any] | None
    ) -> list[list[Completion]]:
        """Return each prompt's completions; ahead of training group by group, so that the engine can be left off."""
        if ahead is None or not isinstance(self.engine, StreamsCompletions):
            return self.engine.generate(students, sampling, self.group_size)
        with closing(self._arriving(self.engine, students, sampling, ahead)) as arriving:
            groups = dict(arriving)
        return [groups[place] for place in range(len(students))]

    def _arriving(
        self,
        engine: StreamsCompletions,
        students: Sequence[Prompt],
        sampling: Sampling,
        ahead: Ahead[Any] | None,
    ) -> Generator[tuple[int, list[Completion]], None, None]:
        """Yield each prompt's place with its completions as they come; ahead of training, while they are wanted.

        Nothing else holds the engine's generator, so that it ends with this one and takes back what is under way.
        """
        for place, group in engine.generate_each(students, sampling, self.group_size):
            if ahead is not None:
                ahead.check_wanted()
            yield place, group

    def _generate_and_judge(
        self,
        engine: StreamsCompletions,
        pool: VerifierPool,
        problems: Sequence[Problem],
        students: Sequence[Prompt],
        sampling: Sampling,
        watch: Stopwatch,
        ahead: Ahead[Any] | None,
    ) -> tuple[list[list[Completion]], list[list[Verdict]]]:
        """Have each group judged while the engine goes on with the others.

        The phase "verify" is what judging adds to the time that generating takes.
        """
        arrived: dict[int, list[Completion]] = {}
        with (
            pool.batch(self.verifier) as batch,
            closing(self._arriving(engine, students, sampling, ahead)) as arriving,
        ):
            watch.start("rollout")
            for place, group in arriving:
                arrived[place] = group
                watch.stop("rollout")
                with watch.phase("verify"):
                    batch.add([problems[place]] * len(group), [each.text for each in group])
                watch.start("rollout")
            watch.stop("rollout")
            with watch.phase("verify"):
                verdicts = dict(zip(arrived, self._grouped(batch.verdicts()), strict=True))
        places = range(len(problems))
        return [arrived[place] for place in places], [verdicts[place] for place in places]

    def _grouped(self, verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
        size = self.group_size
        return [list(verdicts[i : i + size]) for i in range(0, len(verdicts), size)]

    def _advantages(self, verdicts: list[list[Verdict]]) -> list[list[float]]:
        rewards = torch.tensor(
            [[v.reward for v in group] for group in verdicts], dtype=torch.float64
        )
        valid = torch.tensor([[v.valid for v in group] for group in verdicts])
        return self.advantages(rewards, valid=valid).tolist()


def rollout_metrics(groups: Sequence[Sequence[Rollout]]) -> dict[str, Mean]:
    """Describe a step's rollouts: rewards, lengths, how many were cut off, how many groups teach nothing."""
    rollouts = [rollout for group in groups for rollout in group]
    lengths = [len(r.completion.token_ids) for r in rollouts]
    truncated = sum(r.completion.finish_reason == "length" for r in rollouts)
    flat = sum(is_flat(group) for group in groups)
    return {
        **verdict_metrics([r.verdict for r in rollouts]),
        "rollout/completion_tokens_mean": Mean(sum(lengths), len(lengths)),
        "rollout/completion_tokens_max": Mean(max(lengths), 1),
        "rollout/truncated_fraction": Mean(truncated, len(rollouts)),
        "rollout/zero_variance_fraction": Mean(flat, len(groups)),
    }
