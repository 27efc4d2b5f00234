"""Wall-clock seconds by phase of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rlsd_lightning.metrics import Mean


class Stopwatch:
    """Adds up seconds per phase; a phase may be entered many times.

    Example:
        >>> watch = Stopwatch()
        >>> with watch.phase("verify"):
        ...     pass
        >>> list(watch.read())
        ['time/verify_s']
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._started: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block."""
        self.start(name)
        yield
        self.stop(name)

    def start(self, name: str) -> None:
        """Start a phase that ends elsewhere."""
        self._started[name] = time.perf_counter()

    def stop(self, name: str) -> None:
        """End a phase."""
        spent = time.perf_counter() - self._started.pop(name)
        self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def read(self) -> dict[str, Mean]:
        """Return the seconds per phase as metrics time/<phase>_s, and start afresh."""
        seconds, self._seconds = self._seconds, {}
        return {f"time/{name}_s": Mean(value, 1) for name, value in seconds.items()}
