"""Files that every rank writes for itself: rank zero has the plain name."""

from __future__ import annotations

from pathlib import Path


def of_rank(path: Path, rank: int) -> Path:
    """Return the file of a rank.

    Args:
        path: that of rank zero.
        rank: whose file.

    Example:
        >>> [of_rank(Path("held_out.jsonl"), rank).name for rank in (0, 1)]
        ['held_out.jsonl', 'held_out.rank1.jsonl']
    """
    return path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
