"""What a check says, in one line; a check that breaks down is itself a fault, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rlsd_lightning.user_errors import is_users_to_mend

MAX_CHARS = 600
"""A longer line is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check has found."""

    check: str
    """Its name."""
    level: Literal["ok", "warning", "fault"]
    """A warning lets a run start and may be meant; a fault would stop or spoil it."""
    seen: str
    advice: str = ""
    """What to do; empty where all is well."""
    result: Any = None
    """What later checks go on with."""

    @property
    def line(self) -> str:
        r"""The finding in one line.

        Example:
            >>> Finding(check="disk", level="fault", seen="2 GB free,\n  9 GB needed.", advice="Delete runs.").line
            'fault    disk          2 GB free, 9 GB needed. Delete runs.'
        """
        text = " ".join(f"{self.seen} {self.advice}".split())
        if len(text) > MAX_CHARS:
            text = text[:MAX_CHARS] + " ..."
        return f"{self.level:8} {self.check:13} {text}"


def attempt(check: str, look: Callable[[], Finding]) -> Finding:
    """Return what a check finds; an error on the way is a fault in its own words.

    Args:
        check: its name.
        look: the check.
    """
    try:
        return look()
    except Exception as error:
        if is_users_to_mend(error):
            return Finding(check=check, level="fault", seen=str(error))
        return Finding(
            check=check,
            level="fault",
            seen=f"{type(error).__name__}: {error}.",
            advice="This check broke down; what it looks at may fail in a run, too.",
        )


def left_out(check: str, why: str) -> Finding:
    """Return the finding of a check that had nothing to look at."""
    return Finding(check=check, level="warning", seen=f"not looked at, as {why}.")
