"""Makes something in a thread beside training: one thing at a time, one ahead of what training is at."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

Made = TypeVar("Made")

log = logging.getLogger(__name__)


class AbandonedError(RuntimeError):
    """Raised in the thread where nobody waits any more for what it makes."""


class Ahead(Generic[Made]):
    """Makes what it is told to in a thread of its own, and raises what went wrong there where it is asked for.

    One thread from the first thing until `close`: on Linux, a process that is to end with its parent ends with the
    thread that started it, and a verifier may have started one. A daemon, so that work that hangs does not hold up
    the end of a process that could not come to close it.

    Example:
        >>> ahead = Ahead()
        >>> ahead.begin(lambda: 6 * 7)
        >>> ahead.take()
        42
        >>> ahead.close()
    """

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Future[Made], Callable[[], Made]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._future: Future[Made] | None = None
        self._is_closing = threading.Event()

    @property
    def has_begun(self) -> bool:
        """Whether something is being made, or is there and not taken yet."""
        return self._future is not None

    def begin(self, make: Callable[[], Made]) -> None:
        """Have something made.

        Args:
            make: runs in the thread; nothing in it may be collective or draw from global random generators. It asks
                `check_wanted` now and then.
        """
        assert self._future is None, "what was made before has not been taken yet"
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="rollouts-ahead", daemon=True)
            self._thread.start()
        self._future = Future()
        self._orders.put((self._future, make))

    def wait(self) -> None:
        """Return once what has begun is over, well or not."""
        if self._future is not None:
            concurrent.futures.wait([self._future])

    def take(self) -> Made:
        """Return what was made, once it is there; raises what was raised in the thread, with its traceback."""
        assert self._future is not None, "nothing has begun"
        self.wait()
        future, self._future = self._future, None
        return future.result()

    def check_wanted(self) -> None:
        """Raise an AbandonedError in the thread once `close` waits for it to end."""
        if self._is_closing.is_set():
            raise AbandonedError("nobody waits for this any more")

    def close(self) -> None:
        """End the thread, as soon as what it is at can be left; an error that nobody has come for is logged."""
        if self._thread is None:
            return
        if self._future is not None and not self._future.done():
            log.warning("Waiting for the engine to leave off the next step's rollouts.")
        self._is_closing.set()
        self._orders.put(None)
        self._thread.join()
        error = None if self._future is None else self._future.exception()
        if error is not None and not isinstance(error, AbandonedError):
            log.error("Making the next step's rollouts had failed:", exc_info=error)
        self._thread = self._future = None
        self._is_closing.clear()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            future, make = order
            try:
                future.set_result(make())
            except BaseException as error:  # told where the result is taken
                future.set_exception(error)
