"""The files of a run's folder: its settings, its lock, its marks. What they mean is decided in exp_manager.py."""

from __future__ import annotations

import copy
import hashlib
import logging
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict

log = logging.getLogger(__name__)

CONFIG, FINISHED, LOCK = "config.yaml", "finished", ".lock"
SWEEP_JOB = "RLSD_SWEEP_JOB"
"""The environment variable with which the command line names a job of a sweep, such as credit=grpo."""

HARMLESS = (
    "command",
    "checkpoint",
    "engine.servers",
    "engine.trainer_host",
    "exp_manager",
    "paths.run",
    "paths.output",
    "serving",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.enable_checkpointing",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.num_nodes",
    "trainer.strategy",
)
"""Settings that may differ between the starts of one run: they change no number of it beyond rounding."""

_claimed: dict[Path, FileLock] = {}


def create(folder: Path) -> bool:
    """Make a new folder for this process alone; False if it is there already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return claim(folder)


def claim(folder: Path) -> bool:
    """Reserve a folder until this process ends, however it ends; False if another process has it."""
    if folder in _claimed:
        return True
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except NotImplementedError:  # some cluster file systems are mounted without locks
        log.warning(
            "%s lies on a file system without locks: do not start the same run twice at once.",
            folder,
        )
        return True
    _claimed[folder] = lock
    return True


def write_config(cfg: DictConfig, folder: Path) -> None:
    """Write the resolved configuration; never half of it."""
    partial = folder / f"{CONFIG}.partial"
    partial.write_text(
        OmegaConf.to_yaml(OmegaConf.create(_resolved(cfg, str(folder)))), encoding="utf-8"
    )
    partial.replace(folder / CONFIG)


def changes(cfg: DictConfig, folder: Path) -> str:
    """Say how the settings differ from those that the folder's run was started with; empty if they do not."""
    if not (folder / CONFIG).exists():
        return ""
    saved = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
    assert isinstance(saved, dict)
    now = dict(leaves(_resolved(cfg, saved["paths"]["run"])))
    before = dict(leaves(saved))
    differing = [
        key for key in sorted(now.keys() | before.keys()) if now.get(key) != before.get(key)
    ]
    shown = [f"{key} was {before.get(key)!r} and is now {now.get(key)!r}" for key in differing[:3]]
    more = [f"{len(differing) - 3} more settings differ"] if len(differing) > 3 else []
    return ", ".join(shown + more)


def versions(root: Path) -> list[tuple[int, Path]]:
    """Return the numbered versions below a name, by number."""
    numbered = [
        (re.fullmatch(r"version_(\d+)", path.name), path) for path in root.glob("version_*")
    ]
    return sorted((int(match[1]), path) for match, path in numbered if match)


def is_unfinished(folder: Path) -> bool:
    """Whether a run was started here and has not reached its last step."""
    return (folder / CONFIG).exists() and not (folder / FINISHED).exists()


def is_untouched(folder: Path) -> bool:
    """Whether a run's folder holds nothing but what setting it up has written."""
    return {path.name for path in folder.iterdir()} <= {CONFIG, LOCK}


def wandb_id(folder: Path) -> str:
    """Return the run's id at Weights & Biases: made at its first start, the same at every later one."""
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return path.read_text(encoding="utf-8")


def safe_name(text: str) -> str:
    """Turn overrides into a folder name; long ones are cut and told apart by a digest.

    Example:
        >>> safe_name("credit=grpo,data.train.path=/data/a.jsonl")
        'credit=grpo,data.train.path=_data_a.jsonl'
    """
    name = re.sub(r"[^\w.,=+-]+", "_", text) or "all"
    if len(name) <= 120:
        return name
    return f"{name[:100]}-{hashlib.sha1(text.encode()).hexdigest()[:12]}"


def _resolved(cfg: DictConfig, run_dir: str) -> dict[str, Any]:
    """Resolve a copy of the configuration as the run in `run_dir` sees it."""
    own = copy.deepcopy(cfg)
    with open_dict(own):
        own.paths.run = run_dir
    tree = OmegaConf.to_container(own, resolve=True)
    assert isinstance(tree, dict)
    return tree  # type: ignore[return-value]


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting that matters with its full path; lists count as one setting.

    Args:
        tree: a configuration in plain containers.
        path: where `tree` hangs.

    Example:
        >>> list(leaves({"optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "command": "fit"}))
        [('optim.lr', 0.1), ('optim.betas', [0.9, 0.99])]
    """
    if path in HARMLESS:
        return
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        yield from leaves(value, f"{path}.{key}" if path else str(key))
