"""One batch of responses on its way through a verifier pool; it may still grow while its first ones are judged.

What the verifier can say at once is said here, in the process that asks; what was judged already is not judged again;
the rest goes to the workers, served by a thread of its own. What a response did to its worker becomes a verdict in the
end: reward 0 where the same problem's gold answer is judged without trouble, else not valid.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from rlsd_lightning.interfaces import Verifier, what_counts
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import MAX_LISTED, check_paired, gold_response, verify_at_once
from rlsd_lightning.verifier_processes import Outcome, Task, TaskFeed, VerifierProcesses

log = logging.getLogger(__name__)

OnBad = Literal["warn", "stop"]
BAD = {"timeout": "timeouts", "out_of_memory": "out_of_memory", "crash": "crashes"}
"""What a response can do to its worker, and the metric that counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRules:
    """What a batch may cost."""

    timeout_s: float | None
    """Seconds from its last response on; None is no limit."""
    max_bad_fraction: float
    """Largest share of responses, in [0, 1], that may time out, run out of memory or crash."""
    on_bad: OnBad
    """What comes of more."""


@dataclass(slots=True)
class _Judgement:
    """What is known of a response, and of all that are like it."""

    problem: Problem
    outcome: Outcome | None = None
    """None as long as it is not judged."""

    @property
    def is_bad(self) -> bool:
        return self.outcome is not None and self.outcome.kind in BAD


class VerifierBatch:
    """Collects responses and has them judged. One thread adds and waits; `close` in any case, when that is over.

    Args:
        verifier: judges; the processes have it already.
        processes: that judge, for nobody else in the meantime.
        rules: what the batch may cost.
        gold_judged: by problem, whether its gold answer is judged without trouble; what is found out is added.
        stop_at_error: whether the verifier's first error ends the batch.
    """

    def __init__(
        self,
        verifier: Verifier,
        processes: VerifierProcesses,
        rules: BatchRules,
        gold_judged: dict[bytes, bool],
        *,
        stop_at_error: bool = True,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Responses by what became of them, all of them, and those that another one's judgement served; in the end."""
        self._verifier = verifier
        self._processes = processes
        self._rules = rules
        self._budget_s = math.inf if rules.timeout_s is None else rules.timeout_s
        self._gold_judged = gold_judged
        self._stop_at_error = stop_at_error
        self._judgements: list[_Judgement] = []
        self._rows: list[int] = []  # the judgement of each response
        self._copies: Counter[int] | None = None  # of each judgement, once all responses are there
        self._by_response: dict[tuple[int, str], int] = {}
        self._by_what_counts: dict[tuple[bytes, Hashable], int] = {}
        self._packed: dict[int, _Packed] = {}
        self._feed = TaskFeed()
        self._fed: list[int] = []  # the judgement of each task
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def add(self, problems: Sequence[Problem], responses: Sequence[str]) -> None:
        """Add responses and begin to judge them.

        Args:
            problems: one per response. [B]
            responses: completions' texts. [B]

        Raises:
            ValueError: problems and responses do not pair up, or a problem cannot be sent to another process.
        """
        check_paired(problems, responses)
        for problem, response in zip(problems, responses, strict=True):
            key = (
                id(problem),
                response,
            )  # the judgement or the pack keeps the problem alive, and its id its own
            place = self._by_response.get(key)
            if place is None:
                place = self._by_response[key] = self._begin(problem, response)
            self._rows.append(place)

    def verdicts(self) -> list[Verdict]:
        """Wait for all judgements and return one verdict per response, in the order in which they were added.

        Raises:
            ValueError: the verifier found a fault in a problem.
            RuntimeError: the verifier raised anything else or returned no usable verdict, or too many responses could
                not be judged and on_bad is "stop".
        """
        self._wait()
        for judgement in self._judgements:
            if judgement.outcome is not None and judgement.outcome.error is not None:
                raise judgement.outcome.error
        self._check_share(log.warning)
        self._judge_gold()
        self._count()
        verdicts = [self._verdict(judgement) for judgement in self._judgements]
        return [verdicts[place] for place in self._rows]

    def outcomes(self) -> list[Outcome]:
        """Wait for all judgements and return what became of each response, whatever it is."""
        assert not self._stop_at_error, "after an error, some would be missing"
        self._wait()
        return [_known(self._judgements[place]) for place in self._rows]

    def close(self) -> None:
        """Judge no further."""
        self._feed.abandon()
        if self._thread is not None:
            self._thread.join()
        self._feed.close()

    def _begin(self, problem: Problem, response: str) -> int:
        """Judge a response, have it judged, or find that one like it is; return the judgement's place."""
        try:
            verdict = verify_at_once(self._verifier, problem, response)
        except (ValueError, RuntimeError) as error:
            return self._append(problem, Outcome(kind="error", error=error))
        if verdict is not None:
            return self._append(problem, Outcome(kind="judged", verdict=verdict))
        packed = self._pack(problem)
        key = packed.digest, what_counts(self._verifier, problem, response)
        if key not in self._by_what_counts:
            self._by_what_counts[key] = self._append(problem)
            self._fed.append(self._by_what_counts[key])
            self._feed.put((packed.content, response))
            self._start()
        return self._by_what_counts[key]

    def _append(self, problem: Problem, outcome: Outcome | None = None) -> int:
        self._judgements.append(_Judgement(problem, outcome))
        return len(self._judgements) - 1

    def _pack(self, problem: Problem) -> _Packed:
        if id(problem) not in self._packed:
            self._packed[id(problem)] = _Packed.of(problem)
        return self._packed[id(problem)]

    def _start(self) -> None:
        """Start the thread that serves the workers."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="verifier batch", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        arriving = self._processes.judge(
            self._feed, self._budget_s, stop_at_error=self._stop_at_error
        )
        try:
            with contextlib.closing(arriving):
                for index, outcome in arriving:
                    self._judgements[self._fed[index]].outcome = outcome
                    self._stop_if_too_many()
        except BaseException as error:  # handed on to the thread that waits
            self._failure = error

    def _wait(self) -> None:
        """Wait for the thread that serves the workers, once all responses are there."""
        self._copies = Counter(self._rows)
        self._stop_if_too_many()
        self._feed.end()
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _stop_if_too_many(self) -> None:
        if self._rules.on_bad == "stop" and self._copies is not None:
            self._check_share(_stop)

    def _check_share(self, tell: Callable[[str], None]) -> None:
        """Tell if too many responses were in trouble."""
        assert self._copies is not None
        bad = [
            (place, _known(judgement))
            for place, judgement in enumerate(self._judgements)
            if judgement.is_bad
        ]
        num_bad = sum(self._copies[place] for place, _ in bad)
        if num_bad <= self._rules.max_bad_fraction * len(self._rows):
            return
        listed = [f"  {self._judgements[place].problem.place}: {o.detail}" for place, o in bad]
        tell(
            f"VerifierPool: judging {num_bad} of {len(self._rows)} responses timed out, ran out of memory or crashed, "
            f"more than verification.max_bad_fraction={self._rules.max_bad_fraction:g} allows:\n"
            + "\n".join(listed[:MAX_LISTED])
            + "\nLook at these responses, or raise verification.timeout_s, batch_timeout_s, memory_mb or "
            "max_bad_fraction."
        )

    def _judge_gold(self) -> None:
        """Find out of problems that were in trouble whether their gold answers are judged without."""
        asked: dict[bytes, Task] = {}
        for judgement in self._judgements:
            if judgement.is_bad and not _known(judgement).unfinished:
                packed = self._pack(judgement.problem)
                if packed.digest not in self._gold_judged:
                    asked[packed.digest] = packed.content, gold_response(judgement.problem)
        digests = list(asked)
        spent_s = time.monotonic() - self._feed.ended_at
        arriving = self._processes.judge_all(list(asked.values()), self._budget_s - spent_s)
        with contextlib.closing(arriving):
            for index, outcome in arriving:
                if outcome.error is not None:
                    raise outcome.error
                if not outcome.unfinished:
                    is_judged = outcome.verdict is not None and outcome.verdict.valid
                    self._gold_judged[digests[index]] = is_judged

    def _verdict(self, judgement: _Judgement) -> Verdict:
        outcome = _known(judgement)
        if outcome.verdict is not None:
            return outcome.verdict
        reason = f"judging it {outcome.detail}"
        if outcome.unfinished:
            return not_judged(reason)
        if self._gold_judged.get(self._pack(judgement.problem).digest, False):
            return Verdict(reward=0.0, correct=False, reason=reason)
        return not_judged(f"{reason}, and the problem's gold answer cannot be judged either")

    def _count(self) -> None:
        self.counts.update(_known(self._judgements[place]).kind for place in self._rows)
        num_duplicates = len(self._rows) - len(self._judgements)
        self.counts.update(batches=1, responses=len(self._rows), duplicates=num_duplicates)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A problem as it is sent to workers."""

    problem: Problem
    content: bytes
    digest: bytes
    """Tells one problem from another: ids are unique within a data set only."""

    @staticmethod
    def of(problem: Problem) -> _Packed:
        try:
            content = pickle.dumps(problem)
        except Exception as error:  # pickle lets through whatever an object's own hooks raise
            raise ValueError(
                f"VerifierPool: {problem.place} cannot be sent to a worker process ({error!r}). Keep plain values in "
                f"its `extra`, or judge in this process: verification.workers=0."
            ) from error
        return _Packed(problem, content, hashlib.sha256(content).digest())


def not_judged(reason: str) -> Verdict:
    """Return the verdict on a response of which nothing is known."""
    return Verdict(reward=0.0, correct=False, valid=False, reason=f"not judged: {reason}")


def _known(judgement: _Judgement) -> Outcome:
    assert judgement.outcome is not None, "asked before all judgements were there"
    return judgement.outcome


def _stop(message: str) -> None:
    raise RuntimeError(message)
