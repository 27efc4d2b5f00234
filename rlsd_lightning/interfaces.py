"""What a plugin author implements. Structural types: no base class to inherit, nothing to register."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from rlsd_lightning.types import CreditNeeds

if TYPE_CHECKING:
    from torch import Tensor

    from rlsd_lightning.metrics import Mean
    from rlsd_lightning.types import Completion, Problem, Prompt, Sampling, Verdict


@runtime_checkable
class Verifier(Protocol):
    """Judges one response to one problem; lives for the whole run.

    A pure function in a class: same text, same verdict; no network, no randomness, no state. Model text is
    data, so a verifier never raises on it: what cannot be judged is Verdict(valid=False). What a *problem* lacks
    (a tolerance that is no number, options that are missing) is a ValueError that names the problem.
    """

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response`, the completion's text, against `problem.answer`."""
        ...


@runtime_checkable
class ChecksProblems(Protocol):
    """A verifier that can say before training which problems it could not judge."""

    def check(self, problems: Iterable[Problem]) -> None:
        """Raise a ValueError that names the problems it has no way to judge."""
        ...


@runtime_checkable
class JudgesQuickly(Protocol):
    """A verifier that can say of some responses at once what it says of them: in linear time, without risk.

    A VerifierPool judges those in the process that asks, which costs a fraction of sending them to another one.
    """

    def verify_quickly(self, problem: Problem, response: str) -> Verdict | None:
        """Return what `verify` returns; None if that takes more than linear time, or might crash or bloat its process."""
        ...


@runtime_checkable
class NamesWhatCounts(Protocol):
    """A verifier whose verdict depends on a part of the response, so that many a response need not be judged anew."""

    def what_counts(self, problem: Problem, response: str) -> Hashable:
        """Return that part, in linear time: where it is equal, so are the verdicts on responses to this problem."""
        ...


def verify_quickly(verifier: Verifier, problem: Problem, response: str) -> Verdict | None:
    """Return a verifier's verdict if it can be had at once; None of a verifier that does not say."""
    if not _has(type(verifier), JudgesQuickly):
        return None
    return cast(JudgesQuickly, verifier).verify_quickly(problem, response)


def what_counts(verifier: Verifier, problem: Problem, response: str) -> Hashable:
    """Return what of a response a verdict depends on; of a verifier that does not say, the whole response."""
    if not _has(type(verifier), NamesWhatCounts):
        return response
    return cast(NamesWhatCounts, verifier).what_counts(problem, response)


@functools.cache
def _has(kind: type, protocol: type) -> bool:
    """Whether a class has a protocol's methods; asked for every response, so remembered."""
    return issubclass(kind, protocol)


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples completions from weights it is given or shares; lives for the whole run.

    Token ids in, token ids out. The draw of a completion depends on sampling.seed, its prompt's id and its
    place in the group, not on what else is in the batch.
    """

    shares_policy_weights: bool
    """True: samples from the policy's own weights, which are always current; `load_weights` is never called."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> list[list[Completion]]:
        """Return `group_size` completions for each prompt, in the order of the prompts."""
        ...

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Take over the policy's weights, full tensors by their Hugging Face names."""
        ...

    def sleep(self) -> None:
        """Give memory back while the policy is trained."""
        ...

    def wake(self) -> None:
        """Be ready to generate again."""
        ...


@runtime_checkable
class StreamsCompletions(Protocol):
    """An engine that hands over each group when it is done, so that judging overlaps with generating the others."""

    def generate_each(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield the place of each prompt with its completions, which are those of `generate`, in any order."""
        ...


@runtime_checkable
class CreditAssigner(Protocol):
    """Turns one advantage per completion into one per token: this is what tells the methods apart."""

    @property
    def needs_teacher(self) -> bool:
        """Whether teacher_logprobs can change the result at the present settings."""
        ...

    def __call__(
        self,
        advantages: Tensor,
        policy_logprobs: Tensor,
        teacher_logprobs: Tensor | None,
        completion_mask: Tensor,
    ) -> tuple[Tensor, dict[str, Mean]]:
        """Assign credit; no gradient flows through it.

        Args:
            advantages: one per completion. [B]
            policy_logprobs: log P_S of the completion tokens. [B, T]
            teacher_logprobs: log P_T of the same tokens; anything at completions with advantage 0. [B, T]
            completion_mask: True = the token counts. bool [B, T]

        Returns:
            Per-token advantages, exactly 0 where the mask is False [B, T], and metrics.
        """
        ...


@runtime_checkable
class StatesNeeds(Protocol):
    """Credit that asks for more than log-probs under the reference of completions with a non-zero advantage.

    Its __call__ takes, by name, what its needs ask for: see CreditNeeds.
    """

    @property
    def needs(self) -> CreditNeeds:
        """The same for the whole run."""
        ...


def needs_of(credit: CreditAssigner) -> CreditNeeds:
    """Return what a method asks for; a method that does not say asks for nothing special."""
    return credit.needs if isinstance(credit, StatesNeeds) else CreditNeeds()


def ever_asks_teacher(credit: CreditAssigner) -> bool:
    """Whether a method has a use for a teacher at all: now, or once its schedule says so."""
    return credit.needs_teacher or isinstance(credit, ScheduledCredit)


@runtime_checkable
class ScheduledCredit(Protocol):
    """Credit whose use of the teacher follows a schedule; the LambdaDecay callback sets it."""

    lambda_: float
    """How much the evidence counts in the step to come, in [0, 1]."""


@runtime_checkable
class MarksClipping(Protocol):
    """Credit that says which tokens' weights a clip held back, for records and pages."""

    clipped: Tensor | None
    """Of the last call; None before it. bool [B, T]"""


@runtime_checkable
class MeasuresGradients(Protocol):
    """A strategy that reduces and clips gradients itself, so that only it can say how large they were."""

    def grad_norm(self) -> float:
        """Return the norm of the last optimizer step's gradients before they were clipped."""
        ...
