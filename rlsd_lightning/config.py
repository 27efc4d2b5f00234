"""Finds every fault of a configuration before anything is loaded, and builds objects from its nodes.

Keys are checked in known_keys.py, targets and their arguments in targets.py, what must hold between groups in
rules.py. What must hold within one component stands in its constructor.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlsd_lightning.known_keys import unknown_key_faults
from rlsd_lightning.rules import RULES
from rlsd_lightning.spelling import did_you_mean
from rlsd_lightning.targets import find_targets, target_faults

COMMANDS = {
    "fit": "train a policy",
    "validate": "score a checkpoint on the evaluators, as training does in between",
    "test": "score a checkpoint on the evaluators for the record: keeps every response, resumes",
    "score": "score responses that are there already, without a model: score evaluators=NAME responses=FILE.jsonl",
    "predict": "write a checkpoint's completions with their verdicts as JSONL",
    "export": "write a checkpoint as a Hugging Face folder",
    "audit": "try to fool the verifier on the training problems, without a model, and print what it paid",
    "plan": "say what a run needs, without weights, data or GPUs: memory, seconds, what to change",
    "doctor": "look for what could stop or spoil a run: packages, GPUs, ranks, disk, data, verifier, prompts, engine",
    "serve-rollouts": "start a vLLM server that samples for training, and stay until Ctrl-C",
}
"""What the command line can be told to do, one line each."""

_UNUSED = {
    "fit": ("serving",),
    "validate": ("data.train", "serving"),
    "test": ("data.train", "serving"),
    "score": ("data.train", "model", "engine", "serving"),
    "predict": ("data.train", "serving"),
    "export": ("data", "evaluators", "engine", "serving"),
    "audit": ("model", "evaluators", "engine", "serving"),
    "plan": ("data.train", "evaluators", "serving"),
    "doctor": ("serving",),
    "serve-rollouts": ("data", "evaluators", "prompt", "verifier"),
}
"""Sections that a command never reads: a value may still be missing there."""


class ConfigError(ValueError):
    """All faults of a configuration, one per line.

    Args:
        faults: each begins with the full path of the key.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        super().__init__(
            f"The configuration has {count}:\n" + "\n".join(f"  {f}" for f in self.faults)
        )


def compute_dtype(precision: str | int, dtype: str) -> str:
    """Return the type that a policy's matrix products are computed in; `${compute_dtype:PRECISION,DTYPE}` in a config.

    Args:
        precision: trainer.precision.
        dtype: model.dtype, of the weights.

    Example:
        >>> compute_dtype("bf16-mixed", "float32"), compute_dtype("32-true", "float32")
        ('bfloat16', 'float32')
    """
    if "bf16" in str(precision):
        return "bfloat16"
    return "float16" if "16" in str(precision) else dtype


OmegaConf.register_new_resolver("compute_dtype", compute_dtype, replace=True)


def validate(cfg: DictConfig, command: str) -> None:
    """Check keys, values, targets and the rules between groups.

    Args:
        cfg: as composed; interpolations may be unresolved.
        command: one of COMMANDS.

    Raises:
        ConfigError: with all faults together.
    """
    if command not in COMMANDS:
        known = f"It is one of {', '.join(COMMANDS)}."
        raise ConfigError(
            [f"command is {command!r}. {did_you_mean(str(command), COMMANDS) or known}"]
        )
    faults: list[str] = []
    tree = to_tree(cfg, faults)
    for path, node in find_targets(tree):
        faults += target_faults(path, node)
    faults = [fault for fault in faults if not _is_unused(fault, command)]
    faults += unknown_key_faults(tree)
    for rule in RULES.get(command, ()):
        faults += rule(tree)
    if faults:
        raise ConfigError(faults)


def _is_unused(fault: str, command: str) -> bool:
    """Whether a fault lies in a section that the command never reads."""
    return fault.startswith(tuple(f"{section}." for section in _UNUSED[command]))


def to_tree(cfg: Any, faults: list[str], path: str = "") -> Any:
    """Resolve a config into plain containers, noting what has no value instead of stopping at it.

    Args:
        cfg: a config node, or a leaf.
        faults: gets a line for every missing value and every reference to nothing; such keys stay out.
        path: where the node hangs.
    """
    if isinstance(cfg, ListConfig):
        keys: Any = range(len(cfg))
    elif isinstance(cfg, DictConfig):
        keys = list(cfg.keys())
    else:
        return cfg
    tree = {}
    for key in keys:
        full = f"{path}.{key}" if path else str(key)
        try:
            if OmegaConf.is_missing(cfg, key):
                faults.append(f"{full} has no value yet (???). Set {full}=VALUE.")
                tree[key] = "???"
            elif OmegaConf.is_interpolation(cfg, key) and OmegaConf.is_config(cfg[key]):
                tree[key] = OmegaConf.to_container(cfg, resolve=False)[
                    key
                ]  # checked where it stands
            else:
                tree[key] = to_tree(cfg[key], faults, full)
        except OmegaConfBaseException as error:
            faults.append(
                f"{full} refers to nothing: {str(error).splitlines()[0]}. Mend the reference."
            )
    return tree if isinstance(cfg, DictConfig) else list(tree.values())


def instantiate(node: DictConfig | None, **kwargs: Any) -> Any:
    """Build what a node with `_target_` describes, with plain containers inside; nothing from nothing.

    Args:
        node: its `_partial_: true` gives a callable that waits for more arguments.
        kwargs: runtime objects; handed over as they are, neither copied nor converted.

    Raises:
        Exception: what the constructor raised, with a note that names the node.
    """
    if node is None:
        return None
    try:
        factory = hydra.utils.instantiate(node, _convert_="all", _partial_=True)
        if node.get("_partial_"):
            return functools.partial(factory, **kwargs)
        return factory(**kwargs)
    except InstantiationException as error:  # Hydra's wrapping of what an inner constructor raised
        if error.__cause__ is None:
            raise
        error.__cause__.add_note(f"(while building {str(error).rpartition('full_key: ')[2]})")
        raise error.__cause__ from None
    except Exception as error:
        error.add_note(f"(while building {node._get_full_key(None)})")
        raise
