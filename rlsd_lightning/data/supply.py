"""Which problems a step takes, from a data set by index or from a stream, so that a resumed run goes on where it was.

No problem stands twice in a step: its two groups would draw the same completions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from rlsd_lightning.types import Problem

_SPARE = 1
"""Keeps the order of spare problems apart from that of epochs."""


class ProblemSupply(Protocol):
    """Gives each optimizer step its problems; steps are asked for in order, counted from 0."""

    problems_per_step: int
    """Over all ranks."""

    def take(self, step: int) -> Sequence[Problem]:
        """Return the problems of a step. [problems_per_step]."""
        ...

    def spare(self, step: int, rank: int, world_size: int) -> Iterator[Problem]:
        """Yield problems that the step has not taken, for groups without signal; no two ranks get the same."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to go on after the last step taken."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


class IndexedSupply:
    """Steps through a data set by index: which problems a step takes depends on its number alone.

    Shuffled, every epoch is a fresh permutation cut to whole steps (the remainder differs from epoch to epoch).
    Unshuffled, the problems follow one another in the order of the file, round and round.

    Args:
        problems: the data set.
        problems_per_step: over all ranks.
        shuffle: whether to permute.
        seed: of the permutations.

    Example:
        >>> supply = IndexedSupply(["a", "b", "c", "d", "e"], problems_per_step=2, shuffle=False, seed=0)
        >>> [supply.take(step) for step in range(3)]
        [['a', 'b'], ['c', 'd'], ['e', 'a']]
    """

    def __init__(
        self, problems: Sequence[Problem], problems_per_step: int, shuffle: bool, seed: int
    ) -> None:
        if len(problems) < problems_per_step:
            raise ValueError(
                f"rollout.problems_per_step is {problems_per_step}, but data.train has {len(problems)} problems, so a "
                "step would hold one twice. Lower rollout.problems_per_step or add problems."
            )
        self._problems = problems
        self.problems_per_step = problems_per_step
        self._shuffle = shuffle
        self._seed = seed
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(problems))
        )

    def take(self, step: int) -> list[Problem]:
        """See ProblemSupply.take."""
        return [self._problems[i] for i in self._indices(step)]

    def spare(self, step: int, rank: int, world_size: int) -> Iterator[Problem]:
        """See ProblemSupply.spare: the rest of the data set, in an order that the step's number alone decides."""
        taken = set(self._indices(step))
        order = np.random.default_rng([self._seed, step, _SPARE]).permutation(len(self._problems))
        rest = [i for i in order.tolist() if i not in taken]
        return (self._problems[i] for i in rest[rank::world_size])

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the step's number says it all."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Need nothing."""

    def _indices(self, step: int) -> list[int]:
        size = self.problems_per_step
        if not self._shuffle:
            return [i % len(self._problems) for i in range(step * size, (step + 1) * size)]
        epoch, step_of_epoch = divmod(step, len(self._problems) // size)
        return self._permutation(epoch)[step_of_epoch * size : (step_of_epoch + 1) * size].tolist()


class StreamSupply:
    """Takes problems as a stream brings them, round and round; holds none but the step's.

    Args:
        iterate: starts the stream at a row; yields (row to go on from, problem).
        problems_per_step: over all ranks.
        accepts: whether a problem can be used; others are passed over.
    """

    def __init__(
        self,
        iterate: Callable[[int], Iterator[tuple[int, Problem]]],
        problems_per_step: int,
        accepts: Callable[[Problem], bool],
    ) -> None:
        self._iterate = iterate
        self.problems_per_step = problems_per_step
        self._accepts = accepts
        self._row = 0
        self._stream: Iterator[tuple[int, Problem]] | None = None

    def take(self, step: int) -> list[Problem]:
        """See ProblemSupply.take.

        Raises:
            ValueError: the stream holds fewer usable problems than a step takes.
        """
        taken: dict[str, Problem] = {}
        rounds = 0
        while len(taken) < self.problems_per_step:
            if self._stream is None:
                self._stream = self._iterate(self._row)
            try:
                self._row, problem = next(self._stream)
            except StopIteration:
                self._row, self._stream, rounds = 0, None, rounds + 1
                if rounds == 2:
                    raise ValueError(
                        f"rollout.problems_per_step is {self.problems_per_step}, but the stream of data.train brings "
                        f"only {len(taken)} usable problems. Lower it or add problems."
                    ) from None
                continue
            if self._accepts(problem):
                taken.setdefault(problem.id, problem)
        return list(taken.values())

    def spare(self, step: int, rank: int, world_size: int) -> Iterator[Problem]:
        """Never asked: a run that would is refused when it is built, as a stream has no other rows at hand."""
        raise AssertionError("a stream has no spare problems")

    def state_dict(self) -> dict[str, Any]:
        """Return the row that the next step starts at."""
        return {"row": self._row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the stream at that row."""
        self._row, self._stream = state["row"], None
