"""Refuses to train where the ranks of a run were started with different settings, packages or checkpoints."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

PACKAGES = ("rlsd-lightning", "torch", "transformers", "lightning")
"""Those whose versions change numbers."""


class SameSettings(Callback):
    """Compares the settings of all ranks in setup, before anything is trained.

    Paths of data and models are compared as they are written: what two different paths hold cannot be seen from here.

    Args:
        settings: by full name; values that JSON can hold.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Ask the others.

        Raises:
            ValueError: on every rank, if one differs.
        """
        if trainer.world_size > 1 and (found := difference_between_ranks(self._settings)):
            raise ValueError(found)


def difference_between_ranks(settings: Mapping[str, Any]) -> str:
    """Compare settings, and versions of packages, over all ranks of the process group; every rank must ask.

    Args:
        settings: of this rank.

    Returns:
        The same on every rank; empty if there is no difference.
    """
    own = {f"version of {name}": version(name) for name in PACKAGES} | dict(settings)
    if len(set(_gathered(digest(own)))) == 1:
        return ""
    ranks = _gathered((socket.gethostname(), own))
    return difference([host for host, _ in ranks], [theirs for _, theirs in ranks])


def digest(settings: Mapping[str, Any]) -> str:
    """Return a short text that is the same for the same settings.

    Example:
        >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
        True
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(hosts: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> str:
    """Say in which setting the ranks differ first, in the order of rank zero's, and in how many more.

    Args:
        hosts: of the ranks, by rank.
        settings: of the ranks, by rank; not all the same.

    Example:
        >>> print(difference(["one", "two"], [{"lr": 1, "seed": 7}, {"lr": 2, "seed": 7}]))  # doctest: +ELLIPSIS
        Ranks were started with different settings: lr is 1 on rank 0 (one) and 2 on rank 1 (two). Needed: ...
    """
    first = settings[0]
    names = dict.fromkeys(name for own in settings for name in own)
    differing = [
        name for name in names if any(own.get(name) != first.get(name) for own in settings)
    ]
    name = differing[0]
    rank = next(r for r, own in enumerate(settings) if own.get(name) != first.get(name))
    more = f" (and {len(differing) - 1} more differ)" if len(differing) > 1 else ""
    return (
        f"Ranks were started with different settings: {name} is {first.get(name)!r} on rank 0 ({hosts[0]}) and "
        f"{settings[rank].get(name)!r} on rank {rank} ({hosts[rank]}){more}. Needed: the same on every rank. Start all "
        "of them by the same command, with the same configuration files and packages."
    )


def _gathered(value: Any) -> list[Any]:
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
