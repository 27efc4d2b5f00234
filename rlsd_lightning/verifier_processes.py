"""Worker processes that judge responses, seen from the trainer: who works on what, until when, and what came of it.

A worker has one task at a time and the deadline is kept here: whoever passes it is killed, alone, and replaced. What
killed its worker, ran out of memory or raised is tried once more in a fresh process, so that it is never blamed for
what another response left behind or for a kill from outside. The processes' own side is verifier_server.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any, Literal

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.types import Verdict

Task = tuple[bytes, str]
"""A problem, pickled, and one response to it."""

_START_S = 300.0
"""How long a server may take to import a verifier, and a worker to be forked. Seconds as a rule; a shared disk is slow."""
_STOP_S = 10.0
_MAX_FAILED_STARTS = 3
"""In a row; fewer may be kills from outside."""
_TASKS_PER_WORKER = 500
"""Then a fresh one takes over, so that what a library hoards does not pile up."""
_MAX_ANSWER_BYTES = 2**20
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from rlsd_lightning.verifier_server import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",  # sets in the same order in every run
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one task."""

    kind: Literal["judged", "timeout", "out_of_memory", "crash", "error"]
    verdict: Verdict | None = None
    """Of a task that was judged."""
    detail: str = ""
    """Of one that was not: what happened, in words that follow on "judging it"."""
    error: Exception | None = None
    """What the verifier raised."""
    unfinished: bool = False
    """A timeout of the whole batch: nothing is known of this task."""


@dataclass(slots=True, kw_only=True)
class _Worker:
    number: int
    connection: socket.socket
    deadline: float
    """By the monotonic clock: for its start, later for its task; infinite while it is idle."""
    ready: bool = False
    num_tasks: int = 0
    """Given to it so far."""
    task: int | None = None
    ending: Literal["", "timeout", "retired"] = ""
    """Why it was killed; its exit is still to come."""
    received: bytearray = field(default_factory=bytearray)


class TaskFeed:
    """Tasks on their way to the workers: one thread puts them in, another has them judged; more may come until `end`."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.ended_at = math.inf
        """When the last task was in, by the monotonic clock; infinite before."""
        self.abandoned = False
        self.bell, self._ringer = socket.socketpair()
        for end in (self.bell, self._ringer):
            end.setblocking(False)

    def put(self, *tasks: Task) -> None:
        """Add tasks."""
        self.tasks += tasks
        self._ring()

    def end(self) -> None:
        """Say that no more will come."""
        self.ended_at = time.monotonic()
        self._ring()

    def abandon(self) -> None:
        """Say that nobody waits for the outcomes any more."""
        self.abandoned = True
        self._ring()

    def close(self) -> None:
        """Give back the bell."""
        self.bell.close()
        self._ringer.close()

    def hush(self) -> None:
        """Wait for the next ring again."""
        with contextlib.suppress(BlockingIOError):
            while self.bell.recv(4096):
                pass

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it rings already
            self._ringer.send(b"!")


class VerifierProcesses:
    """Runs a server and its workers; judges tasks on them.

    Args:
        num_workers: processes that judge.
        timeout_s: how long judging one response may take.
        memory_mb: address space that a worker may take beyond what it starts with.
    """

    def __init__(self, num_workers: int, timeout_s: float, memory_mb: int) -> None:
        self._num_workers = num_workers
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._server: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None
        self._loaded: bytes | None = None
        self._workers: dict[int, _Worker] = {}
        self._num_started = 0
        self._num_failed_starts = 0
        self._budget_s = math.inf
        self._stop_at_error = True
        self._num_taken = 0
        self._has_erred = False
        self._waiting: deque[int] = deque()
        self._again: deque[int] = deque()
        self._tried_again: set[int] = set()
        self._done: deque[tuple[int, Outcome]] = deque()

    def load(self, verifier: Verifier) -> bool:
        """Have workers that judge by this verifier; returns whether they are new.

        Args:
            verifier: of a class that can be imported by name.

        Raises:
            ValueError: it cannot be sent to other processes.
        """
        try:
            pickled = pickle.dumps(verifier)
        except Exception as error:  # pickle lets through whatever an object's own hooks raise
            raise ValueError(_not_sendable(verifier, repr(error))) from error
        if pickled == self._loaded:
            return False
        self.close()
        try:
            self._start_server()
            self._order("load", pickled)
            news = self._next_news(_START_S)
            if news["event"] == "refused":
                raise ValueError(_not_sendable(verifier, news["reason"]))
            self._loaded = pickled
            self._fill_up()
            while not all(worker.ready for worker in self._workers.values()):
                self._step()
        except BaseException:
            self.close()
            raise
        return True

    def judge(
        self, feed: TaskFeed, budget_s: float = math.inf, *, stop_at_error: bool = True
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield each task's place and its outcome, as they come; whoever stops listening stops the work.

        Args:
            feed: what to judge.
            budget_s: how long it may take from the end of the feed on; what is not done by then has a timeout.
            stop_at_error: after an error only the tasks before it are still judged, so that the first error is the
                same for any number of workers. Otherwise all are.
        """
        self._budget_s, self._stop_at_error = budget_s, stop_at_error
        self._num_taken, self._has_erred = 0, False
        self._waiting, self._again = deque(), deque()
        self._tried_again, self._done = set(), deque()
        try:
            self._catch_up()
            while self._goes_on(feed):
                self._hand_out(feed)
                self._step(feed)
                self._keep_budget(feed)
                while self._done:
                    yield self._done.popleft()
        finally:
            self._abandon(self._busy())

    def judge_all(
        self, tasks: Sequence[Task], budget_s: float = math.inf
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield the outcomes of tasks that are all there, as `judge` does."""
        with contextlib.closing(TaskFeed()) as feed:
            feed.put(*tasks)
            feed.end()
            with contextlib.closing(self.judge(feed, budget_s)) as arriving:
                yield from arriving

    def close(self) -> None:
        """End all processes and wait until they are gone."""
        if self._control is not None:
            self._control.close()
        for worker in self._workers.values():
            worker.connection.close()
        if self._server is not None:
            try:
                self._server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server, self._control, self._loaded, self._workers = None, None, None, {}

    # Processes

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        arguments = [
            json.dumps([str(folder) for folder in sys.path]),
            str(theirs.fileno()),
            str(os.getpid()),
        ]
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,
            )
        self._control = Connection(ours.detach())

    def _fill_up(self) -> None:
        """Have as many workers as were asked for, those that are about to end included."""
        assert self._server is not None
        assert self._control is not None
        while len(self._workers) < self._num_workers:
            ours, theirs = socket.socketpair()
            self._num_started += 1
            number = self._num_started
            with theirs:
                self._order("fork", number, self._memory_mb)
                send_handle(self._control, theirs.fileno(), self._server.pid)
            ours.setblocking(False)
            deadline = time.monotonic() + _START_S
            self._workers[number] = _Worker(number=number, connection=ours, deadline=deadline)

    def _order(self, *order: Any) -> None:
        assert self._control is not None
        try:
            self._control.send(order)
        except OSError as error:
            raise self._server_lost() from error

    def _next_news(self, patience_s: float) -> dict[str, Any]:
        assert self._control is not None
        if not self._control.poll(patience_s):
            raise RuntimeError(
                f"VerifierPool: its server process was not ready within {patience_s:g} s. Look at what importing the "
                f"verifier takes so long for."
            )
        try:
            return json.loads(self._control.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._server_lost() from error

    def _server_lost(self) -> RuntimeError:
        server = self._server
        self.close()
        code = server.returncode if server is not None else None
        return RuntimeError(
            f"VerifierPool: its server process ended by itself (exit code {code}); something from outside may have "
            f"killed it. Look for a lack of memory or for a message above, and start the run again."
        )

    # Work

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.task is not None]

    def _goes_on(self, feed: TaskFeed) -> bool:
        """Take in what has come, and say whether there is or may be more to do."""
        more_may_come = feed.ended_at == math.inf and not self._has_erred  # asked before taking in
        num_there = len(feed.tasks)
        if not self._has_erred:
            self._waiting.extend(range(self._num_taken, num_there))
        self._num_taken = num_there
        something_to_do = self._waiting or self._again or self._busy() or more_may_come
        return bool(something_to_do) and not feed.abandoned

    def _hand_out(self, feed: TaskFeed) -> None:
        for worker in self._workers.values():
            if not worker.ready or worker.ending or worker.task is not None:
                continue
            queue = self._again if worker.num_tasks == 0 and self._again else self._waiting
            if queue:
                index = queue.popleft()
                self._give(worker, index, feed.tasks[index])

    def _give(self, worker: _Worker, index: int, task: Task) -> None:
        worker.task = index
        worker.num_tasks += 1
        worker.deadline = time.monotonic() + self._timeout_s
        try:
            worker.connection.settimeout(self._timeout_s)
            worker.connection.sendall(pickle.dumps(task))
            worker.connection.setblocking(False)
        except OSError:  # it is dying, or does not read: either way its exit comes next
            self._retire([worker])

    def _catch_up(self) -> None:
        """Take note of workers that ended since the last batch."""
        while self._control is not None and self._control.poll(0):
            self._note(self._next_news(0))

    def _step(self, feed: TaskFeed | None = None) -> None:
        """Wait until something happens or a deadline passes, and take note of it."""
        listening = {w.connection: w for w in self._workers.values() if w.ending != "retired"}
        bells = [] if feed is None else [feed.bell]
        deadlines = [w.deadline for w in self._workers.values() if not w.ending]
        if feed is not None:
            deadlines.append(feed.ended_at + self._budget_s)
        pause = max(0.0, min(deadlines, default=math.inf) - time.monotonic())
        ready = wait([self._control, *bells, *listening], None if pause == math.inf else pause)
        for connection in ready:
            if connection in listening:
                self._read(listening[connection])
        if feed is not None and feed.bell in ready:
            feed.hush()
        if self._control in ready:
            self._note(self._next_news(0))
        self._keep_deadlines()

    def _note(self, news: dict[str, Any]) -> None:
        if news["event"] == "refused":
            raise RuntimeError(
                f"VerifierPool: {news['reason']}. Lower verification.workers, or raise the limit of processes."
            )
        worker = self._workers[news["number"]]
        if worker.ending != "retired":
            self._read(worker)  # it may have answered just before its end
        worker.connection.close()
        del self._workers[worker.number]
        if worker.task is not None:
            self._lost(worker, news["code"])
        elif not worker.ready:
            self._failed_start(news["code"])
        self._fill_up()

    def _failed_start(self, code: int) -> None:
        """Take note of a worker that ended before it was ready."""
        self._num_failed_starts += 1
        if self._num_failed_starts == _MAX_FAILED_STARTS:
            raise RuntimeError(
                f"VerifierPool: {_MAX_FAILED_STARTS} worker processes in a row ended before they were ready (the last "
                f"by {_exit(code)}). Raise verification.memory_mb (now {self._memory_mb})."
            )

    def _lost(self, worker: _Worker, code: int) -> None:
        """Take note of a worker that ended while it judged."""
        index = worker.task
        assert index is not None
        if worker.ending == "timeout":
            detail = f"took longer than {self._timeout_s:g} s"
            self._done.append((index, Outcome(kind="timeout", detail=detail)))
        else:
            self._failed(index, Outcome(kind="crash", detail=f"ended its process ({_exit(code)})"))

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.ending or now < worker.deadline:
                continue
            if worker.task is None:
                raise RuntimeError(
                    f"VerifierPool: a worker process was not ready within {_START_S:g} s. The machine is overloaded; "
                    f"lower verification.workers."
                )
            worker.ending = "timeout"
            self._order("kill", worker.number)

    def _keep_budget(self, feed: TaskFeed) -> None:
        """Give up what is not done once the time for all of it is over."""
        if time.monotonic() < feed.ended_at + self._budget_s:
            return
        busy = self._busy()
        given = [worker.task for worker in busy if worker.task is not None]
        detail = f"was not done when the {self._budget_s:g} s for the whole batch were over"
        late = Outcome(kind="timeout", detail=detail, unfinished=True)
        self._done.extend((index, late) for index in (*given, *self._again, *self._waiting))
        self._waiting, self._again = deque(), deque()
        self._abandon(busy)

    def _retire(self, workers: Sequence[_Worker]) -> None:
        """Kill workers from which nothing more is wanted."""
        for worker in workers:
            if not worker.ending and self._control is not None:
                worker.ending = "retired"
                self._order("kill", worker.number)

    def _abandon(self, workers: Sequence[_Worker]) -> None:
        """Kill workers whose tasks no longer matter."""
        for worker in workers:
            worker.task = None
        self._retire(workers)

    def _read(self, worker: _Worker) -> None:
        """Take what a worker has sent; it sends one line per task."""
        while len(worker.received) <= _MAX_ANSWER_BYTES:
            try:
                data = worker.connection.recv(2**16)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                break
            worker.received += data
            if data.endswith(b"\n"):
                line, worker.received = bytes(worker.received), bytearray()
                if not self._hear(worker, line):
                    break
        self._retire([worker])

    def _hear(self, worker: _Worker, line: bytes) -> bool:
        """Take an answer; False if it is none, as a process that a response took over may send anything."""
        try:
            answer = json.loads(line)
        except ValueError:
            return False
        if answer["status"] == "ready":
            worker.ready, worker.deadline = True, math.inf
            self._num_failed_starts = 0
            return True
        if worker.task is None:
            return False
        index, worker.task, worker.deadline = worker.task, None, math.inf
        self._conclude(worker, index, answer)
        return True

    def _conclude(self, worker: _Worker, index: int, answer: dict[str, Any]) -> None:
        if answer["status"] == "judged":
            self._done.append((index, Outcome(kind="judged", verdict=Verdict(**answer["verdict"]))))
            if worker.num_tasks >= _TASKS_PER_WORKER:
                self._retire([worker])
            return
        self._retire([worker])
        self._failed(index, _failure(answer, self._memory_mb))

    def _failed(self, index: int, outcome: Outcome) -> None:
        """Try a failed task again in a fresh process; a second failure stands."""
        if index not in self._tried_again:
            self._tried_again.add(index)
            self._again.append(index)
            return
        self._done.append((index, outcome))
        if outcome.kind == "error" and self._stop_at_error:
            self._has_erred = True
            self._waiting.clear()  # all that waits comes after it
            self._again = deque(i for i in self._again if i < index)
            self._abandon([w for w in self._busy() if w.task is not None and w.task > index])


def _failure(answer: dict[str, Any], memory_mb: int) -> Outcome:
    if answer["status"] == "out_of_memory":
        return Outcome(kind="out_of_memory", detail=f"took more than {memory_mb} MB of memory")
    kind = {"ValueError": ValueError, "RuntimeError": RuntimeError}[answer["error"]]
    error = kind(answer["message"])
    error.add_note(f"In the worker process:\n{answer['trace']}")
    return Outcome(kind="error", error=error)


def _exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _not_sendable(verifier: Verifier, reason: str) -> str:
    return (
        f"VerifierPool: {type(verifier).__name__} cannot be handed to worker processes ({reason}). Define its class at the "
        f"top level of a module that can be imported, not in the script that is run; or judge in this process: "
        f"verification.workers=0."
    )
