"""Sends each problem to the verifier of its kind.

A kind nobody knows is an error, not an open-ended question: RLSD's released code scores an unknown type by word overlap
without a word.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Hashable, Iterable, Mapping

from rlsd_lightning.interfaces import ChecksProblems, Verifier, verify_quickly, what_counts
from rlsd_lightning.types import Problem, Verdict

_SHOWN = 5


class ByKind:
    """Routes by `problem.kind`; "Multiple Choice", "multiple-choice" and "multiple_choice" are one kind.

    Args:
        verifiers: by name.
        kinds: the name of a verifier for each kind, as the data set spells it.

    Example:
        >>> from rlsd_lightning.verifiers.numeric import Numeric
        >>> verifier = ByKind(verifiers={"numeric": Numeric()}, kinds={"numerical": "numeric"})
        >>> verifier.verify(Problem(id="1", prompt="", answer="4", kind="Numerical"), "<answer>4</answer>").correct
        True
    """

    def __init__(self, *, verifiers: Mapping[str, Verifier], kinds: Mapping[str, str]) -> None:
        lost = {kind: name for kind, name in kinds.items() if name not in verifiers}
        if lost or not kinds:
            raise ValueError(
                f"ByKind: kinds sends {lost or 'nothing'} to verifiers that are not there; there are "
                f"{', '.join(verifiers) or 'none'}. Send every kind to one of these, or add the verifier."
            )
        self.routes = {spelt_alike(kind): verifiers[name] for kind, name in kinds.items()}

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` by the verifier for the problem's kind."""
        return self._route(problem).verify(problem, response)

    def verify_quickly(self, problem: Problem, response: str) -> Verdict | None:
        """Judge `response` if the verifier for the problem's kind can at once."""
        return verify_quickly(self._route(problem), problem, response)

    def what_counts(self, problem: Problem, response: str) -> Hashable:
        """Return what counts for the verifier for the problem's kind."""
        return what_counts(self._route(problem), problem, response)

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether every problem has a verifier, and what that verifier says of it.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: some have none; the message names the first few, their kinds and how many they are. Or the
                verifier of one finds a fault in it.
        """
        strangers = (p for p in problems if not self._checked(p))
        first = list(itertools.islice(strangers, _SHOWN))
        if first:
            count = len(first) + sum(1 for _ in strangers)
            lines = "\n".join(f"  {p.place}: kind {p.kind!r}" for p in first)
            raise ValueError(f"{count} problems: {self._unknown(first[0].kind)}\n{lines}")

    def _route(self, problem: Problem) -> Verifier:
        """Return the verifier for a problem's kind."""
        verifier = self.routes.get(spelt_alike(problem.kind))
        if verifier is None:
            raise ValueError(f"{problem.place}: {self._unknown(problem.kind)}")
        return verifier

    def _checked(self, problem: Problem) -> bool:
        """Whether a problem has a verifier; an error if that verifier finds a fault in it."""
        verifier = self.routes.get(spelt_alike(problem.kind))
        if isinstance(verifier, ChecksProblems):
            verifier.check([problem])
        return verifier is not None

    def _unknown(self, kind: str) -> str:
        return (
            f"no verifier for the kind {kind!r}; there is one for {', '.join(self.routes)}. "
            f"Mend the data set's kind, or add the kind to verifier.kinds."
        )


@functools.lru_cache(maxsize=1024)
def spelt_alike(kind: str) -> str:
    """Return a kind in lower case, with one underscore for blanks and hyphens.

    Example:
        >>> spelt_alike(" Multiple-Choice ")
        'multiple_choice'
    """
    return "_".join(kind.lower().replace("-", " ").replace("_", " ").split())
