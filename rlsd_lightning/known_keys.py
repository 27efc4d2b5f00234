"""Which keys a configuration may have: those that the yaml files of rlsd_lightning.conf spell out.

Arguments under a `_target_` are not looked at here: the constructor's signature knows them (targets.py).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from omegaconf import OmegaConf

from rlsd_lightning.spelling import did_you_mean
from rlsd_lightning.targets import HYDRA_KEYS

COMPONENT_ROOMS = ("callbacks", "evaluators")
"""Sections in which every child has a name of the user's choice and a `_target_`."""

_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


def unknown_key_faults(tree: dict[str, Any]) -> Iterator[str]:
    """Yield a line for every key that no yaml file knows; such a key would have no effect.

    Args:
        tree: the whole configuration in plain containers.
    """
    yield from _compare(tree, known_keys(), "")
    for room in COMPONENT_ROOMS:
        for name, node in (tree.get(room) or {}).items():
            if not _is_component(node):
                names = [f"{room}.{other}" for other in known_keys().get(room, {})]
                hint = (
                    did_you_mean(f"{room}.{name}", names)
                    or f"Set {room}.{name}._target_=package.module.Class."
                )
                yield f"{room}.{name} has no _target_, so nothing can be built from it. {hint}"


@functools.cache
def known_keys() -> dict[str, Any]:
    """Return the keys of all yaml files, nested by the place that each file fills."""
    known: dict[str, Any] = {}
    conf = resources.files("rlsd_lightning.conf")
    for group, file in _yaml_files(conf, ""):
        text = file.read_text(encoding="utf-8")
        header = _PACKAGE.search(text)
        package = header.group(1) if header else group
        if package != "_global_" and not package.startswith("hydra"):
            content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
            content = content if isinstance(content, dict) else {}  # an empty file is an empty list
            _merge(
                _place(known, package),
                {k: v for k, v in content.items() if k not in ("defaults", "hydra")},
            )
    return known


def dotted_keys(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the full path of every key, sections included.

    Args:
        tree: nested dicts.
        path: where the tree hangs.

    Example:
        >>> list(dotted_keys({"optim": {"_target_": "x.Y", "lr": 1}, "seed": 0}))
        ['optim', 'optim.lr', 'seed']
    """
    for key, value in tree.items():
        full = f"{path}.{key}" if path else str(key)
        if key not in HYDRA_KEYS:
            yield full
        if isinstance(value, dict):
            yield from dotted_keys(value, full)


def _yaml_files(folder: Traversable, group: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _yaml_files(entry, f"{group}.{entry.name}" if group else entry.name)
        elif entry.name.endswith(".yaml"):
            yield group, entry


def _place(known: dict[str, Any], package: str) -> dict[str, Any]:
    for part in filter(None, package.split(".")):
        known = known.setdefault(part, {})
    return known


def _merge(known: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(known.get(key), dict):
            _merge(known[key], value)
        elif key not in known or isinstance(value, dict):
            known[key] = value


def _compare(tree: dict[str, Any], known: dict[str, Any], path: str) -> Iterator[str]:
    if path in COMPONENT_ROOMS:
        return
    for key, value in tree.items():
        full = f"{path}.{key}" if path else str(key)
        if key not in known:
            hint = did_you_mean(full, dotted_keys(known_keys())) or "Remove it."
            yield f"{full} is no key of the configuration, so it would have no effect. {hint}"
        elif isinstance(value, dict) and "_target_" not in value and _is_fixed(known[key]):
            yield from _compare(value, known[key], full)


def _is_component(node: Any) -> bool:
    """Whether something can be built from a node, or nothing is meant to be: null, or a reference to another node."""
    if isinstance(node, str):
        return node.startswith("${")
    return node is None or (isinstance(node, dict) and "_target_" in node)


def _is_fixed(known: Any) -> bool:
    """Whether a section's keys are spelt out; an empty mapping in a yaml stands for free ones."""
    return isinstance(known, dict) and bool(known)
