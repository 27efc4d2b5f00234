"""Which quantities are above their thresholds, and a file of when they came there: <run>/alarms.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlsd_lightning.records import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A quantity that has come above its threshold."""

    step: int
    """The optimizer step, counted from 1."""
    metric: str
    """Without "leakage/"."""
    value: float
    threshold: float
    action: str
    """What was done: warn, lower_lambda or stop."""


class Alarms:
    """Raises an alarm when a quantity comes above its threshold, and not again until it was back below.

    Args:
        thresholds: by quantity.
        action: what an alarm sets off, for the record.

    Example:
        >>> alarms = Alarms({"phrase_fraction": 0.05}, action="warn")
        >>> [len(alarms.update(s, {"phrase_fraction": v})) for s, v in enumerate([0.0, 0.1, 0.2, 0.05, 0.1], 1)]
        [0, 1, 0, 0, 1]
    """

    def __init__(self, thresholds: Mapping[str, float], action: str) -> None:
        self._thresholds = dict(thresholds)
        self._action = action
        self._active: set[str] = set()

    def update(self, step: int, values: Mapping[str, float]) -> list[Alarm]:
        """Return the alarms that begin at this step; what was not measured stays as it was."""
        begun = []
        for metric, threshold in self._thresholds.items():
            if metric not in values:
                continue
            if values[metric] <= threshold:
                self._active.discard(metric)
            elif metric not in self._active:
                self._active.add(metric)
                begun.append(
                    Alarm(
                        step=step,
                        metric=metric,
                        value=values[metric],
                        threshold=threshold,
                        action=self._action,
                    )
                )
        return begun

    def state_dict(self) -> dict[str, Any]:
        """Return what is above its threshold."""
        return {"active": sorted(self._active)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; a quantity that has no threshold any more is forgotten."""
        self._active = set(state["active"]) & self._thresholds.keys()


def append_alarms(path: Path, alarms: list[Alarm]) -> None:
    """Add alarms to the file, one JSON object per line."""
    before = path.read_bytes() if path.exists() else b""
    rows = "".join(json.dumps(asdict(alarm)) + "\n" for alarm in alarms)
    write_atomically(path, before + rows.encode())


def forget_alarms_after(path: Path, step: int) -> None:
    """Take out the alarms of steps that a resumed run trains again."""
    if not path.exists():
        return
    rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if json.loads(row)["step"] <= step]
    write_atomically(path, "".join(kept).encode())
