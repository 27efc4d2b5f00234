"""What one program may use up."""

from __future__ import annotations

from dataclasses import dataclass

MB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use up."""

    time_s: float
    """Processor time. By the clock it may take `wall_s`."""
    memory_mb: int
    """Address space; for a program that reserves more than it uses, its data."""
    output_bytes: int = MB
    """Of standard output, and of standard error; a program that writes more is ended."""

    @property
    def wall_s(self) -> float:
        """How long it may take by the clock: more than processor time, as a machine has other things to do.

        Example:
            >>> Limits(time_s=4, memory_mb=512).wall_s
            6.5
        """
        return 1.5 * self.time_s + 0.5
