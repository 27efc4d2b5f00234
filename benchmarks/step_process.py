"""What the processes of step.py say to each other, and how each measures itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from step_workload import Workload

PHASES = ("rollout", "verify", "teacher", "train", "backward")
"""In a step's order; what is left of the step is the optimizer's and the framework's."""


@dataclass(slots=True, kw_only=True)
class Measurement:
    """What one contender's process reports."""

    step_s: list[float] = field(default_factory=list)
    """Wall clock from one optimizer step's end to the next one's, one per timed step."""
    cpu_s: list[float] = field(default_factory=list)
    """The process's CPU seconds, all threads, in the same steps: says what wall clock owes to other programs."""
    phases_s: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each phase in the same steps."""
    step_tokens: list[int] = field(default_factory=list)
    """Prompt and completion tokens of each step, padding aside."""
    peak_bytes: int = 0
    """Largest memory of the process, beyond what it had when the model was loaded."""

    def save(self, path: Path) -> None:
        """Write for the parent."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Measurement:
        """Read in the parent."""
        return cls(**json.loads(path.read_text()))


class StepClock:
    """Collects the timed steps of a contender.

    Args:
        warmup_steps: first steps that are not counted; at least one, as it starts the clock.
    """

    def __init__(self, warmup_steps: int) -> None:
        self.measurement = Measurement()
        self._warmup_steps = warmup_steps
        self._steps_seen = 0
        self._last_end = 0.0
        self._last_cpu = 0.0

    def end_step(self, phases_s: Mapping[str, float], num_tokens: int) -> None:
        """Note the end of an optimizer step, with the seconds of its phases and the tokens it had."""
        now, cpu = time.perf_counter(), time.process_time()
        self._steps_seen += 1
        if self._steps_seen > self._warmup_steps:
            self.measurement.step_s.append(now - self._last_end)
            self.measurement.cpu_s.append(cpu - self._last_cpu)
            self.measurement.step_tokens.append(num_tokens)
            for phase in PHASES:
                self.measurement.phases_s.setdefault(phase, []).append(phases_s.get(phase, 0.0))
        self._last_end, self._last_cpu = now, cpu


def memory_bytes(peak: bool = False) -> int:
    """Return this process's resident memory, now or at its largest (Linux)."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024
    raise RuntimeError(
        f"/proc/self/status has no line {wanted} This benchmark needs Linux to read memory."
    )


def read_workload(path: Path) -> Workload:
    """Read what the parent has written."""
    return Workload(**json.loads(path.read_text()))
