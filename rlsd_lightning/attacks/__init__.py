"""Attacks: ways to be paid without solving the problem, each a small pure function from a problem to a response.

    attack     what an attack is
    nothing    says nothing of the problem: blanks, tags, wildcards, filler
    several    says everything at once, or always the same
    stuffed    is given the gold answer and hides it among wrong ones
    regions    boxes and stretches of time, for grounding
    records    JSON
    queries    SQL
    programs   Python
    trials     what attacks were paid, and how that is told

None but those of `stuffed` (and those elsewhere that say so) look at the gold answer. rlsd_lightning.audit tries them.
"""

from __future__ import annotations

from rlsd_lightning.attacks import nothing, programs, queries, records, regions, several, stuffed
from rlsd_lightning.attacks.attack import Attack

ATTACKS: tuple[Attack, ...] = (
    *nothing.ATTACKS,
    *several.ATTACKS,
    *stuffed.ATTACKS,
    *regions.ATTACKS,
    *records.ATTACKS,
    *queries.ATTACKS,
    *programs.ATTACKS,
)
"""All there are; names are unique."""

__all__ = ["ATTACKS", "Attack"]
