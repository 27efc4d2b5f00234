"""What differs between the settings of several runs, and what to call each run by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from rlsd_lightning.run_folder import leaves

Settings = dict[str, Any]
"""One run's settings by full path."""

ABSENT = object()
"""The value of a setting that a run does not have."""

_TARGET = "._target_"
_WHEREABOUTS = ("paths.runs", "paths.run", "paths.output")
"""Where a run lies says nothing of what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting that is not the same in all runs."""

    key: str
    """Its full path; of a `_target_` the path of its node."""
    values: list[Any]
    """One per run, ABSENT where there is none."""

    @property
    def words(self) -> list[str]:
        """The values as a reader wants them."""
        return [value_words(value) for value in self.values]


def read_settings(config: str) -> Settings:
    r"""Flatten a run's config.yaml; paths into the run's own folder read the same for all runs.

    Args:
        config: the text of the file; empty gives no settings.

    Example:
        >>> read_settings("paths: {run: /runs/a}\ncallbacks: {rec: {dirpath: /runs/a/rollouts}}\nseed: 1")
        {'callbacks.rec.dirpath': 'RUN/rollouts', 'seed': 1}
    """
    tree = OmegaConf.to_container(OmegaConf.create(config)) if config else {}
    flat = dict(leaves(tree))
    own = (tree.get("paths") or {}).get("run") if isinstance(tree, dict) else None
    return {
        key: value.replace(str(own), "RUN") if own and isinstance(value, str) else value
        for key, value in flat.items()
        if key not in _WHEREABOUTS
    }


def differences(settings: Sequence[Settings]) -> list[Difference]:
    """List the settings that differ: components first, then numbers, callbacks, the seed, and paths last.

    A component that some runs lack is one line: its own settings are listed only if they differ among the others.

    Args:
        settings: one per run.

    Example:
        >>> found = differences([{"optim.lr": 0.1, "seed": 1}, {"optim.lr": 0.2, "seed": 1}])
        >>> [(one.key, one.words) for one in found]
        [('optim.lr', ['0.1', '0.2'])]
    """
    keys = list(dict.fromkeys(key for one in settings for key in one))
    rows = {key: [one.get(key, ABSENT) for one in settings] for key in keys}
    differing = {key: row for key, row in rows.items() if any(v != row[0] for v in row)}
    found = [
        Difference(key=key.removesuffix(_TARGET), values=row)
        for key, row in differing.items()
        if not _goes_with_component(key, row, differing)
    ]
    return sorted(found, key=_priority)


def run_names(found: Sequence[Difference], num_runs: int) -> tuple[list[str], list[str]]:
    """Name runs by as few of their settings as tell them apart.

    Args:
        found: what differs; a setting that tells no more runs apart than those before it is left out.
        num_runs: how many runs there are.

    Returns:
        The full names, and the names without the seed: runs that share the latter repeat each other. Runs of equal
        settings have equal names.

    Example:
        >>> lr, seed = Difference(key="optim.lr", values=[1, 1, 2]), Difference(key="seed", values=[1, 2, 1])
        >>> run_names([lr, seed], 3)
        (['lr=1, seed=1', 'lr=1, seed=2', 'lr=2, seed=1'], ['lr=1', 'lr=1', 'lr=2'])
    """
    chosen: list[Difference] = []
    classes = [""] * num_runs
    for one in found:
        finer = [f"{c}|{word}" for c, word in zip(classes, one.words, strict=True)]
        if len(set(finer)) > len(set(classes)):
            classes = finer
            chosen.append(one)
    ends = [one.key.rpartition(".")[2] for one in chosen]
    labels = [
        one.key if ends.count(end) > 1 else end for one, end in zip(chosen, ends, strict=True)
    ]

    def name(index: int, with_seed: bool) -> str:
        parts = [
            f"no {label}" if one.values[index] is ABSENT else f"{label}={one.words[index]}"
            for one, label in zip(chosen, labels, strict=True)
            if with_seed or one.key != "seed"
        ]
        return ", ".join(parts) or "all runs"

    return [name(i, True) for i in range(num_runs)], [name(i, False) for i in range(num_runs)]


def value_words(value: Any) -> str:
    """Write a setting's value.

    Example:
        >>> [value_words(v) for v in (0.0004, True, None, ["a"], "rlsd_lightning.credit.rlsd.RLSDCredit", ABSENT)]
        ['0.0004', 'true', 'null', '["a"]', 'RLSDCredit', '-']
    """
    if value is ABSENT:
        return "-"
    if isinstance(value, str):
        is_class = value.count(".") > 1 and "/" not in value and " " not in value
        return value.rpartition(".")[2] if is_class else value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _goes_with_component(key: str, row: Sequence[Any], differing: dict[str, list[Any]]) -> bool:
    """Whether a setting is there where its component is, always the same, so that the component's line says it all."""
    node = key.rpartition(".")[0]
    while node:
        target = differing.get(node + _TARGET)
        if target and key != node + _TARGET and ABSENT in target:
            present = [v for v, t in zip(row, target, strict=True) if t is not ABSENT]
            return all(v == present[0] for v in present)
        node = node.rpartition(".")[0]
    return False


def _priority(one: Difference) -> tuple[bool, bool, bool, bool, int]:
    """Sort what says more of a run to the front; where it says the same, shorter paths."""
    is_path = one.key.startswith("paths.") or any(
        isinstance(value, str) and "/" in value for value in one.values
    )
    is_class = all(
        isinstance(value, str) and value != word
        for value, word in zip(one.values, one.words, strict=True)
        if value is not ABSENT
    )
    return (
        is_path,
        one.key == "seed",
        one.key.startswith("callbacks."),
        not is_class,
        one.key.count("."),
    )
