"""Ends a process that hangs in a call which no exception could interrupt, and says in which phase of what it was."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

STATUS_STUCK = 75
"""Exit status: the same command may be started again (EX_TEMPFAIL of sysexits.h)."""


class PhaseWatch:
    """Watches phases of some work, each for as long as its `with` block runs.

    Args:
        what: the work, for the message: "weight sync".
        timeout_s: how long one phase may take.
        rank: of this process.
        advice: what to look at.
    """

    def __init__(self, what: str, timeout_s: float, rank: int, advice: str) -> None:
        self._what, self._timeout_s, self._rank, self._advice = what, timeout_s, rank, advice

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Watch what happens inside.

        Args:
            name: of the phase, for the message.
        """
        alarm = threading.Timer(self._timeout_s, self._end, [name])
        alarm.daemon = True
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def _end(self, name: str) -> None:
        log.error(
            "%s: rank %d on %s has been in the phase '%s' for %g s. %s",
            self._what,
            self._rank,
            socket.gethostname(),
            name,
            self._timeout_s,
            self._advice,
        )
        os._exit(STATUS_STUCK)
