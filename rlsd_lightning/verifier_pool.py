"""Judges responses in worker processes, so that no response can hang, crash or bloat the run that asked.

What a response did to its worker becomes a verdict: reward 0 where the response is to blame, because the same problem's
gold answer is judged without trouble; not valid where that is in trouble, too. What the verifier itself gets wrong
stays an error that stops the run, as in verification.verify_batch, which gives the same verdicts in this process.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, get_args

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import MAX_LISTED, check_paired, gold_response
from rlsd_lightning.verifier_processes import Outcome, Task, VerifierProcesses

log = logging.getLogger(__name__)

OnBad = Literal["warn", "stop"]
_Key = tuple[str, ...]
_BAD = {"timeout": "timeouts", "out_of_memory": "out_of_memory", "crash": "crashes"}
"""What a response can do to its worker, and the metric that counts it."""


class VerifierPool:
    """Judges batches on several processes; one verdict per response, in order, the same for any number of processes.

    Its processes start with the first batch, or by `start`; they end with `close`, and within a second when the
    process that owns the pool is gone, however it ended. Several threads may ask; one is served at a time.

    Args:
        workers: processes that judge, 1 or more.
        timeout_s: how long judging one response may take, by the clock; the worker is then killed. Some times what the
            verifier needs at most, so that a busy machine changes no verdict.
        memory_mb: memory that a worker may take beyond what it starts with, in MiB of address space. Enforced on Linux.
        max_bad_fraction: largest share of a batch's responses, in [0, 1], that may time out, run out of memory or crash.
        on_bad: beyond that share, "warn" and go on, or "stop" the run.
    """

    def __init__(
        self,
        *,
        workers: int,
        timeout_s: float = 10.0,
        memory_mb: int = 2048,
        max_bad_fraction: float = 0.1,
        on_bad: OnBad = "warn",
    ) -> None:
        _check_settings(workers, timeout_s, memory_mb, max_bad_fraction, on_bad)
        self.max_bad_fraction = max_bad_fraction
        self.on_bad = on_bad
        self._processes = VerifierProcesses(workers, timeout_s, memory_mb)
        self._gold_judged: dict[_Key, bool] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, verifier: Verifier) -> None:
        """Start the processes now and not with the first batch.

        Args:
            verifier: of a class that can be imported by name; another one later on costs a new start.

        Raises:
            ValueError: it cannot be handed to other processes.
        """
        with self._lock:
            self._load(verifier)

    def verify_batch(
        self, verifier: Verifier, problems: Sequence[Problem], responses: Sequence[str]
    ) -> list[Verdict]:
        """Return one verdict per response, in the order of the responses; equal responses are judged once.

        Args:
            verifier: judges.
            problems: one per response, the same one several times if it has several. [B]
            responses: completions' texts. [B]

        Raises:
            ValueError: problems and responses do not pair up, the verifier found a fault in a problem, or something
                cannot be sent to another process.
            RuntimeError: the verifier raised anything else or returned no usable verdict, or too many responses could
                not be judged and on_bad is "stop".
        """
        check_paired(problems, responses)
        keys = [(*_identity(p), response) for p, response in zip(problems, responses, strict=True)]
        tasks: dict[_Key, Task] = dict(
            zip(keys, zip(problems, responses, strict=True), strict=True)
        )
        with self._lock:
            self._load(verifier)
            outcomes = self._judge(tasks, Counter(keys))
            self._judge_gold([tasks[key][0] for key in tasks if outcomes[key].kind in _BAD])
            self._count([outcomes[key].kind for key in keys], num_judged=len(tasks))
            verdicts = {key: self._verdict(tasks[key][0], outcomes[key]) for key in tasks}
        return [verdicts[key] for key in keys]

    def read_metrics(self) -> dict[str, Mean]:
        """Return how many responses ended how since the last time, per batch, and start afresh.

        verify/timeouts, verify/out_of_memory and verify/crashes are numbers of responses; verify/bad_fraction is their
        share, verify/duplicate_fraction that of the responses that another one's verdict served.
        """
        counts, self._counts = self._counts, Counter()
        metrics = {
            f"verify/{name}": Mean(counts[kind], counts["batches"]) for kind, name in _BAD.items()
        }
        num_bad = sum(counts[kind] for kind in _BAD)
        metrics["verify/bad_fraction"] = Mean(num_bad, counts["responses"])
        metrics["verify/duplicate_fraction"] = Mean(counts["duplicates"], counts["responses"])
        return metrics

    def close(self) -> None:
        """End all processes; a later batch starts them again."""
        with self._lock:
            self._processes.close()

    def _load(self, verifier: Verifier) -> None:
        if self._processes.load(verifier):
            self._gold_judged.clear()

    def _judge(self, tasks: dict[_Key, Task], copies: Counter[_Key]) -> dict[_Key, Outcome]:
        """Judge each task once; the first error among them is raised.

        Args:
            tasks: by what makes them one.
            copies: how many responses each task serves.
        """
        keys = list(tasks)
        outcomes: dict[_Key, Outcome] = {}
        num_bad = 0
        with contextlib.closing(self._processes.judge(list(tasks.values()))) as arriving:
            for index, outcome in arriving:
                outcomes[keys[index]] = outcome
                if outcome.kind in _BAD:
                    num_bad += copies[keys[index]]
                    if self.on_bad == "stop":
                        self._check_share(num_bad, copies.total(), tasks, outcomes)
        for key in keys:
            if key in outcomes and (error := outcomes[key].error) is not None:
                raise error
        if self.on_bad == "warn":
            self._check_share(num_bad, copies.total(), tasks, outcomes)
        return outcomes

    def _judge_gold(self, problems: Sequence[Problem]) -> None:
        """Find out of problems that were in trouble whether their gold answers are judged without."""
        asked = {_identity(p): p for p in problems if _identity(p) not in self._gold_judged}
        keys = list(asked)
        tasks = [(problem, gold_response(problem)) for problem in asked.values()]
        with contextlib.closing(self._processes.judge(tasks)) as arriving:
            for index, outcome in arriving:
                if outcome.error is not None:
                    raise outcome.error
                self._gold_judged[keys[index]] = (
                    outcome.verdict is not None and outcome.verdict.valid
                )

    def _verdict(self, problem: Problem, outcome: Outcome) -> Verdict:
        if outcome.verdict is not None:
            return outcome.verdict
        reason = f"judging it {outcome.detail}"
        if self._gold_judged[_identity(problem)]:
            return Verdict(reward=0.0, correct=False, reason=reason)
        reason = f"not judged: {reason}, and the problem's gold answer cannot be judged either"
        return Verdict(reward=0.0, correct=False, valid=False, reason=reason)

    def _check_share(
        self,
        num_bad: int,
        num_responses: int,
        tasks: dict[_Key, Task],
        outcomes: dict[_Key, Outcome],
    ) -> None:
        """Warn or stop if too many responses of a batch were in trouble."""
        if num_bad <= self.max_bad_fraction * num_responses:
            return
        listed = [
            f"  {task[0].place}: {outcomes[key].detail}"
            for key, task in tasks.items()
            if key in outcomes and outcomes[key].kind in _BAD
        ]
        message = (
            f"VerifierPool: judging {num_bad} of {num_responses} responses timed out, ran out of memory or crashed, more "
            f"than verification.max_bad_fraction={self.max_bad_fraction:g} allows:\n"
            + "\n".join(listed[:MAX_LISTED])
            + "\nLook at these responses, or raise verification.timeout_s, memory_mb or max_bad_fraction."
        )
        if self.on_bad == "stop":
            raise RuntimeError(message)
        log.warning(message)

    def _count(self, kinds: Sequence[str], num_judged: int) -> None:
        self._counts.update(kinds)
        self._counts.update(batches=1, responses=len(kinds), duplicates=len(kinds) - num_judged)


def _identity(problem: Problem) -> _Key:
    """Return what tells one problem from another: ids are unique within a data set only."""
    return problem.id, problem.location, problem.kind, problem.answer


def _check_settings(
    workers: int, timeout_s: float, memory_mb: int, max_bad_fraction: float, on_bad: str
) -> None:
    faults = []
    if workers < 1:
        faults.append(f"workers is {workers}, needs 1 or more processes")
    if not 0 < timeout_s < float("inf"):
        faults.append(f"timeout_s is {timeout_s}, needs a number of seconds above 0")
    if memory_mb < 1:
        faults.append(f"memory_mb is {memory_mb}, needs 1 or more")
    if not 0 <= max_bad_fraction <= 1:
        faults.append(f"max_bad_fraction is {max_bad_fraction}, needs a share in [0, 1]")
    if on_bad not in get_args(OnBad):
        faults.append(f"on_bad is {on_bad!r}, needs one of {', '.join(get_args(OnBad))}")
    if faults:
        raise ValueError("verification: " + "; ".join(faults) + ".")
