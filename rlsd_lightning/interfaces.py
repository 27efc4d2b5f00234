"""What a plugin author implements. Structural types: no base class to inherit, nothing to register."""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take over the policy's weights. Every rank calls it and must take all tensors: what is sharded is gathered.

        Args:
            named_tensors: whole tensors by their Hugging Face names, a tied one once (weights.named_weights).
            version: the optimizer steps that they have seen; completions carry it from now on.
        """
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
class StartsWithRanks(Protocol):
    """An engine that takes its place beside the ranks: made once the strategy has them together, and closed at the end."""

    def start(self) -> None:
        """Be there, once torch.distributed is up; every rank calls it, at the same time. Another call does nothing."""
        ...

    def close(self) -> None:
        """Give everything back; the ranks' own group of processes stays. Another call does nothing."""
        ...


@contextmanager
def started(engine: RolloutEngine) -> Iterator[None]:
    """Start an engine and close it at the end, if it is one that has to be."""
    start_engine(engine)
    with closed_at_end(engine):
        yield


def start_engine(engine: RolloutEngine) -> None:
    """Start an engine, if it is one that has to be."""
    if isinstance(engine, StartsWithRanks):
        engine.start()


@contextmanager
def closed_at_end(engine: RolloutEngine) -> Iterator[None]:
    """Close an engine at the end, if it is one that has to be."""
    try:
        yield
    finally:
        if isinstance(engine, StartsWithRanks):
            engine.close()


@contextmanager
def awake(engine: RolloutEngine) -> Iterator[None]:
    """Keep an engine awake for a while; both may be collective."""
    engine.wake()
    try:
        yield
    finally:
        engine.sleep()


@runtime_checkable
class RunsElsewhere(Protocol):
    """An engine that says whether it samples in other processes, so that training can go on meanwhile."""

    runs_elsewhere: bool
    """True: `generate` may run in a thread beside training; `load_weights` waits until it has ended."""


@runtime_checkable
class NamesItsWeights(Protocol):
    """An engine that knows which weights it is made of."""

    def check_names(self, names: Collection[str]) -> None:
        """Raise an EngineError that lists what is missing or unknown, unless these are all of its weights.

        Args:
            names: what `load_weights` is going to be given.
        """
        ...


@runtime_checkable
class DescribesLogprobs(Protocol):
    """An engine that says in which numbers it computes, and over which tokens it takes log-probs."""

    dtype: str
    """Of its weights: "float32", "bfloat16", "float16"."""
    logprobs_leave_out: tuple[int, ...]
    """Ids that are not part of the distributions whose log-probs it gives; none where they are over all tokens."""


@runtime_checkable
class HasReplicas(Protocol):
    """An engine that spreads its work over several copies of itself."""

    def replicas(self) -> list[tuple[str, RolloutEngine]]:
        """Return each copy by its name, as an engine that works on that one alone."""
        ...


@runtime_checkable
class TracesLayers(Protocol):
    """An engine that lets one look inside, so that weights that did not arrive can be found."""

    def trace(self, prompt: Prompt) -> dict[str, tuple[float, ...]]:
        """Compute one prompt and describe what came out of every layer; see layer_trace.py.

        Args:
            prompt: what the model reads.

        Returns:
            Two numbers per layer, by its Hugging Face name, in the order of computation.
        """
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
