"""A deadline for pure Python code that may run for ever, in any thread and without signals.

A watching thread raises an exception inside the thread that works. It is seen between two bytecodes, so one long call
into C (a power with millions of digits) is not cut short: callers keep such calls small beforehand. It is a second
line of defence, not isolation: memory and crashes are shared with the process.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
_REPEAT_S = 0.1
"""An exception can be swallowed on its way (by a finaliser, by a bare except), so it is raised again until it gets through."""


class DeadlinePassed(BaseException):
    """Raised inside the work that took too long; a BaseException, so that no `except Exception` on its way stops it."""


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what `work` returns, unless it takes longer.

    Args:
        seconds: how long it may take, by the clock.
        work: pure Python without locks or half-written state, as it can be broken off anywhere.

    Raises:
        TimeoutError: it took longer.

    Example:
        >>> within(5, lambda: 2 + 2)
        4
    """
    watch = _Watch(threading.get_ident(), seconds)
    try:
        watch.start()
        try:
            return work()
        finally:
            watch.stop()
    except DeadlinePassed:
        watch.stop()
        raise TimeoutError(f"took longer than {seconds:g} s") from None


class _Watch(threading.Thread):
    """Raises DeadlinePassed in another thread, from the deadline on until it is stopped."""

    def __init__(self, thread_id: int, seconds: float) -> None:
        super().__init__(name="deadline", daemon=True)
        self._thread_id = ctypes.c_ulong(thread_id)
        self._seconds = seconds
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Wait for the deadline, then interrupt again and again."""
        pause = self._seconds
        while not self._stopped.wait(pause):
            with self._lock:
                if not self._stopped.is_set():
                    self._raise_there(ctypes.py_object(DeadlinePassed))
            pause = _REPEAT_S

    def stop(self) -> None:
        """Interrupt no more, and take back an interruption that is still on its way."""
        with self._lock:
            self._stopped.set()
            self._raise_there(None)

    def _raise_there(self, exception: ctypes.py_object | None) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread_id, exception)
