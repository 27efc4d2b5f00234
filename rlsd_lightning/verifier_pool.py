"""Judges responses in worker processes, so that no response can hang, crash or bloat the run that asked.

What a response did to its worker becomes a verdict: reward 0 where the response is to blame, because the same problem's
gold answer is judged without trouble; not valid where that is in trouble, too. What the verifier itself gets wrong
stays an error that stops the run, as in verification.verify_batch, which gives the same verdicts in this process.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import get_args

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.metrics import Mean
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import gold_response
from rlsd_lightning.verifier_batch import BAD, BatchRules, OnBad, VerifierBatch, not_judged
from rlsd_lightning.verifier_processes import Outcome, VerifierProcesses

_NO_RULES = BatchRules(timeout_s=None, max_bad_fraction=1.0, on_bad="warn")


class VerifierPool:
    """Judges batches on several processes; one verdict per response, in order, the same for any number of processes.

    Its processes start with the first batch, or by `start`; they end with `close`, and within a second when the
    process that owns the pool is gone, however it ended. Several threads may ask; one is served at a time.

    Args:
        workers: processes that judge, 1 or more.
        timeout_s: how long judging one response may take, by the clock; the worker is then killed. Some times what the
            verifier needs at most, so that a busy machine changes no verdict.
        memory_mb: memory that a worker may take beyond what it starts with, in MiB of address space. Enforced on Linux.
        batch_timeout_s: how long judging a batch may take once all of it is there; what is not done by then is not judged.
            None waits for all.
        max_bad_fraction: largest share of a batch's responses, in [0, 1], that may time out, run out of memory or crash.
        on_bad: beyond that share, "warn" and go on, or "stop" the run.
    """

    def __init__(
        self,
        *,
        workers: int,
        timeout_s: float = 10.0,
        memory_mb: int = 2048,
        batch_timeout_s: float | None = None,
        max_bad_fraction: float = 0.1,
        on_bad: OnBad = "warn",
    ) -> None:
        _check_settings(workers, timeout_s, memory_mb, batch_timeout_s, max_bad_fraction, on_bad)
        self._rules = BatchRules(
            timeout_s=batch_timeout_s, max_bad_fraction=max_bad_fraction, on_bad=on_bad
        )
        self._processes = VerifierProcesses(workers, timeout_s, memory_mb)
        self._gold_judged: dict[bytes, bool] = {}
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
        with self.batch(verifier) as batch:
            batch.add(problems, responses)
            return batch.verdicts()

    @contextlib.contextmanager
    def batch(self, verifier: Verifier) -> Iterator[VerifierBatch]:
        """Open a batch that grows: what is added is judged while more is on its way.

        Other threads that ask wait until it is left.

        Args:
            verifier: judges.

        Raises:
            ValueError: the verifier cannot be handed to other processes.
        """
        with self._lock:
            self._load(verifier)
            batch = VerifierBatch(verifier, self._processes, self._rules, self._gold_judged)
            with contextlib.closing(batch):
                yield batch
            self._counts.update(batch.counts)

    def judge_gold(
        self, verifier: Verifier, problems: Sequence[Problem]
    ) -> list[Verdict | ValueError]:
        """Return what the verifier says of each problem's gold answer, as verification.judge_gold does.

        A gold answer that hangs, crashes or bloats its worker is not judged. Nothing of this is counted.

        Args:
            verifier: judges.
            problems: whose answers. [P]

        Raises:
            ValueError: something cannot be sent to another process.
            RuntimeError: the verifier raised anything but a ValueError, or returned no usable verdict.
        """
        with self._lock:
            self._load(verifier)
            batch = VerifierBatch(
                verifier, self._processes, _NO_RULES, self._gold_judged, stop_at_error=False
            )
            with contextlib.closing(batch):
                batch.add(problems, [gold_response(problem) for problem in problems])
                return [_gold_verdict(outcome) for outcome in batch.outcomes()]

    def read_metrics(self) -> dict[str, Mean]:
        """Return how many responses ended how since the last time, per batch, and start afresh.

        verify/timeouts, verify/out_of_memory and verify/crashes are numbers of responses; verify/bad_fraction is their
        share, verify/duplicate_fraction that of the responses that another one's verdict served.
        """
        counts, self._counts = self._counts, Counter()
        metrics = {
            f"verify/{name}": Mean(counts[kind], counts["batches"]) for kind, name in BAD.items()
        }
        num_bad = sum(counts[kind] for kind in BAD)
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


def _gold_verdict(outcome: Outcome) -> Verdict | ValueError:
    if isinstance(outcome.error, ValueError):
        return outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome.verdict or not_judged(f"judging it {outcome.detail}")


def _check_settings(
    workers: int,
    timeout_s: float,
    memory_mb: int,
    batch_timeout_s: float | None,
    max_bad_fraction: float,
    on_bad: str,
) -> None:
    faults = []
    if workers < 1:
        faults.append(f"workers is {workers}, needs 1 or more processes")
    if not 0 < timeout_s < float("inf"):
        faults.append(f"timeout_s is {timeout_s}, needs a number of seconds above 0")
    if memory_mb < 1:
        faults.append(f"memory_mb is {memory_mb}, needs 1 or more")
    if batch_timeout_s is not None and not 0 < batch_timeout_s < float("inf"):
        faults.append(
            f"batch_timeout_s is {batch_timeout_s}, needs a number of seconds above 0, or null for no limit"
        )
    if not 0 <= max_bad_fraction <= 1:
        faults.append(f"max_bad_fraction is {max_bad_fraction}, needs a share in [0, 1]")
    if on_bad not in get_args(OnBad):
        faults.append(f"on_bad is {on_bad!r}, needs one of {', '.join(get_args(OnBad))}")
    if faults:
        raise ValueError("verification: " + "; ".join(faults) + ".")
