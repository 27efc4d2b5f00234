"""How the tokens of a step lie in rows and micro-batches on one rank: the arithmetic of data/collate.py.

A row is a prompt with as many of its completions as fit into max_row_tokens. Lengths are expected averages, so every
row of a step looks the same here; where none are given they are the limits, and every number is an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one view, all alike."""

    num_rows: int
    prompt_tokens: int
    completions_per_row: int
    completion_tokens: int

    @property
    def row_tokens(self) -> int:
        """S, prompt and completions."""
        return self.prompt_tokens + self.completions_per_row * self.completion_tokens

    @property
    def num_tokens(self) -> int:
        """Tokens that go through the model."""
        return self.num_rows * self.row_tokens

    @property
    def num_predicted(self) -> int:
        """N, completion tokens: hidden states that meet the output embedding."""
        return self.num_rows * self.completions_per_row * self.completion_tokens

    @property
    def has_siblings(self) -> bool:
        """Rows with several completions need a mask [S, S]; others are plainly causal."""
        return self.completions_per_row > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What goes through the model at once."""

    student: Rows
    teacher: Rows
    num_problems: float
    """Whose images are encoded for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one rank does in one step."""

    num_problems: int
    """Of this rank."""
    group_size: int
    """G"""
    num_micro_batches: int
    """K"""
    prompt_tokens: int
    """Of the student's view, image tokens included."""
    teacher_prompt_tokens: int
    """Of the teacher's view; 0 where no teacher is asked."""
    completion_tokens: int
    longest_prompt_tokens: int
    """The limit, as the next two: memory has to do for a row of that length, too."""
    longest_teacher_prompt_tokens: int
    longest_completion_tokens: int
    """Of a step's completions one nearly always reaches it, and decoding lasts as long."""
    images_per_problem: float
    image_tokens: int
    """Of one image."""
    max_row_tokens: int | None
    share_prefix: bool
    scored_fraction: float
    """Completions that the teacher scores: those with an advantage, or all."""

    @property
    def num_completions(self) -> int:
        """Completions of this rank in a step."""
        return self.num_problems * self.group_size

    @property
    def completions_per_row(self) -> int:
        """How many completions share a prompt's row."""
        longer = max(self.prompt_tokens, self.teacher_prompt_tokens)
        return completions_that_fit(
            longer,
            self.completion_tokens,
            self.group_size if self.share_prefix else 1,
            self.max_row_tokens,
        )

    @property
    def num_rows(self) -> int:
        """Rows of the step, at least one for each micro-batch."""
        rows = self.num_problems * math.ceil(self.group_size / self.completions_per_row)
        return max(rows, self.num_micro_batches)

    def student(self) -> Rows:
        """Return the rows of the whole step in the student's view."""
        return self._rows(self.prompt_tokens, self.num_rows)

    def teacher(self) -> Rows:
        """Return the rows of the whole step in the teacher's view, as if it scored every completion."""
        return self._rows(self.teacher_prompt_tokens, self.num_rows)

    def micro_batches(self) -> tuple[MicroBatch, MicroBatch]:
        """Return what may need the most memory: the fullest one of expected lengths, and one row at all limits."""
        num_rows = math.ceil(self.num_rows / self.num_micro_batches)
        rows_per_problem = max(1.0, self.num_rows / self.num_problems)
        fullest = MicroBatch(
            student=self._rows(self.prompt_tokens, num_rows),
            teacher=self._rows(self.teacher_prompt_tokens, num_rows),
            num_problems=num_rows / rows_per_problem,
        )
        longest = MicroBatch(
            student=_one_row(self.longest_prompt_tokens, self.longest_completion_tokens),
            teacher=_one_row(self.longest_teacher_prompt_tokens, self.longest_completion_tokens),
            num_problems=1.0,
        )
        return fullest, longest

    def _rows(self, prompt_tokens: int, num_rows: int) -> Rows:
        per_row = min(self.completions_per_row, math.ceil(self.num_completions / self.num_rows))
        return Rows(
            num_rows=num_rows,
            prompt_tokens=prompt_tokens,
            completions_per_row=per_row,
            completion_tokens=self.completion_tokens,
        )

    def num_patches(self, num_problems: float, patches_per_token: int) -> int:
        """Count the patches of the images of some problems; an image is encoded once for all rows that show it."""
        return round(num_problems * self.images_per_problem * self.image_tokens * patches_per_token)


def _one_row(prompt_tokens: int, completion_tokens: int) -> Rows:
    return Rows(
        num_rows=1,
        prompt_tokens=prompt_tokens,
        completions_per_row=1,
        completion_tokens=completion_tokens,
    )


def completions_that_fit(
    prompt_tokens: int, completion_tokens: int, group_size: int, max_row_tokens: int | None
) -> int:
    """Count the completions that share a row with their prompt; one always has its place.

    Args:
        prompt_tokens: of the longer view.
        completion_tokens: of each.
        group_size: there are no more.
        max_row_tokens: of a row with several completions; None sets no limit.

    Example:
        >>> completions_that_fit(1000, 1500, group_size=8, max_row_tokens=16384)
        8
        >>> completions_that_fit(16384, 4096, group_size=8, max_row_tokens=16384)
        1
    """
    if max_row_tokens is None:
        return group_size
    return max(1, min(group_size, (max_row_tokens - prompt_tokens) // completion_tokens))
