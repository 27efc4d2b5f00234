"""Checks what a config node with `_target_` would build, without building it: the import and the arguments."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from rlsd_lightning.spelling import did_you_mean

HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
PLUGIN_ROOMS = ("verifiers", "callbacks", "evaluators", "conf")


def find_targets(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node with a `_target_` and its path, outer nodes first.

    Args:
        tree: plain dicts and lists.
        path: where the tree hangs in the config.

    Example:
        >>> list(find_targets({"a": {"b": [{"_target_": "x.Y"}]}}))
        [('a.b.0', {'_target_': 'x.Y'})]
    """
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield path, tree
        children = tree.items()
    elif isinstance(tree, list):
        children = enumerate(tree)
    else:
        return
    for key, child in children:
        yield from find_targets(child, f"{path}.{key}" if path else str(key))


def target_faults(path: str, node: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with one node: its import, unknown arguments, missing arguments."""
    try:
        target = locate(node["_target_"])
    except ValueError as error:
        yield f"{path}._target_ is {node['_target_']}: {error}"
        return
    yield from _argument_faults(path, node, target)


def locate(name: str) -> Any:
    """Import what a dotted name stands for.

    Args:
        name: such as rlsd_lightning.credit.rlsd.RLSD.

    Raises:
        ValueError: the name stands for nothing callable; the message says how far it leads and what is near.

    Example:
        >>> locate("fractions.Fraction").__name__
        'Fraction'
        >>> locate("fractions.Fracton")
        Traceback (most recent call last):
        ValueError: module fractions has no Fracton. Did you mean fractions.Fraction?
    """
    if not isinstance(name, str) or "." not in name:
        raise ValueError("it needs a dotted name, package.module.Class.")
    if name.partition(".")[0] in PLUGIN_ROOMS:
        raise ValueError(
            f"plugins go by their long name, as the short one would be a second copy of every class. "
            f"Write rlsd_lightning.{name}."
        )
    parts = name.split(".")
    found: Any = _import_module(parts[0])
    for end, part in enumerate(parts[1:], start=2):
        try:
            found = getattr(found, part)
        except AttributeError:
            if not isinstance(found, ModuleType):
                raise ValueError(_no_such_name(found, part)) from None
            found = _import_module(".".join(parts[:end]), found)
    if not callable(found):
        raise ValueError(f"it is a {type(found).__name__}, but something callable is needed.")
    return found


def _import_module(name: str, parent: ModuleType | None = None) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ValueError(
                f"its import fails, as the package {error.name} is not installed. "
                "Install it, or choose another option of this group."
            ) from error
        if parent is None:
            raise ValueError(
                f"there is no package {name}. Mend the name, or install the package."
            ) from error
        raise ValueError(_no_such_name(parent, name.rpartition(".")[2])) from None


def _no_such_name(owner: Any, name: str) -> str:
    if not isinstance(owner, ModuleType):
        return f"{owner.__qualname__} has no {name}. " + did_you_mean(name, dir(owner))
    names = [entry for entry in dir(owner) if entry[0] != "_" and callable(getattr(owner, entry))]
    names += [entry.name for entry in pkgutil.iter_modules(getattr(owner, "__path__", []))]
    hint = did_you_mean(
        f"{owner.__name__}.{name}", [f"{owner.__name__}.{entry}" for entry in names]
    )
    return f"module {owner.__name__} has no {name}. {hint}".rstrip()


def _argument_faults(path: str, node: dict[str, Any], target: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # some callables written in C do not tell theirs
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    given = [key for key in node if key not in HYDRA_KEYS]
    short = node["_target_"].rpartition(".")[2]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in given:
            if key not in names:
                hint = did_you_mean(f"{path}.{key}", [f"{path}.{name}" for name in names])
                takes = ", ".join(names) or "no argument"
                yield f"{path}.{key}: {short} takes no such argument. {hint or f'It takes {takes}.'}"
    if node.get("_partial_"):
        return
    for p in by_name[len(node.get("_args_", ())) :]:
        if p.default is p.empty and p.name not in given:
            yield f"{path}.{p.name} is missing, but {short} needs it. Set {path}.{p.name}=VALUE."
