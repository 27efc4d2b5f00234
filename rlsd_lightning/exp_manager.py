"""Decides where a run lives and what it goes on from, in NeMo's manner: exp_dir/name/version.

A run's folder holds config.yaml (resolved), checkpoints/, metrics/version_N/ (one per start) and, once training has
reached its last step, an empty file `finished`. What else lies there belongs to callbacks.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from rlsd_lightning import checkpoints, run_folder, torchrun
from rlsd_lightning.config import instantiate
from rlsd_lightning.last_checkpoint import LastCheckpoint
from rlsd_lightning.same_settings import SameSettings
from rlsd_lightning.time_limit import TimeLimit

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

log = logging.getLogger(__name__)

# What was decided, for the ranks that Lightning relaunches.
_RUN_DIR, _RESUME_FROM = "RLSD_RUN_DIR", "RLSD_RESUME_FROM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's folder and what it goes on from."""

    dir: Path
    """Absolute; exists."""
    resume_from: Path | None
    """A complete checkpoint of this run, or None for a fresh start."""


def setup_run(cfg: DictConfig) -> Run:
    """Choose or make the run's folder, note it in cfg.paths.run, and write config.yaml.

    version null: the newest unfinished version that was started with the same settings goes on; if there is none, a
    new version starts. A named version is taken as it is. Ranks that Lightning relaunches follow their parent, those
    that torchrun started follow rank zero.

    Args:
        cfg: the whole configuration; paths.run is set here.

    Raises:
        ValueError: the named version must not be written to, or nothing can be resumed.
    """
    settings = cfg.exp_manager
    if os.environ.get("LOCAL_RANK", "0") != "0" and _RUN_DIR in os.environ:
        decided = os.environ[_RESUME_FROM]
        run = Run(dir=Path(os.environ[_RUN_DIR]), resume_from=Path(decided) if decided else None)
    elif version := settings.version or _shared_version(cfg):
        run = _named(cfg, _root(cfg) / str(version))
    elif torchrun.is_launched():
        run = _from_json(torchrun.agreed(lambda: _to_json(_next(cfg, _root(cfg)))))
    else:
        run = _next(cfg, _root(cfg))
    cfg.paths.run = str(run.dir)
    if (
        settings.resume_if_exists
        and not run.resume_from
        and not settings.resume_ignore_no_checkpoint
    ):
        raise ValueError(
            f"exp_manager.resume_ignore_no_checkpoint is false, but {run.dir} holds no checkpoint to resume from. "
            "Set it to true to start from scratch."
        )
    if is_rank_zero():
        run_folder.write_config(cfg, run.dir)
        start = f"goes on from {run.resume_from.name}" if run.resume_from else "starts from scratch"
        log.info("Run folder: %s; %s.", run.dir, start)
    os.environ[_RUN_DIR] = str(run.dir)
    os.environ[_RESUME_FROM] = str(run.resume_from or "")
    return run


def mark_finished(run: Run) -> None:
    """Note that training has reached its last step, so that the same command starts a new version."""
    if is_rank_zero():
        (run.dir / run_folder.FINISHED).touch()


def last_checkpoint(cfg: DictConfig) -> Path:
    """Return the newest complete checkpoint of this name, of exp_manager.version if that is set.

    Raises:
        FileNotFoundError: there is none.
    """
    root = _root(cfg)
    pattern = str(cfg.exp_manager.version or "*")
    found = [checkpoints.newest_in(folder / "checkpoints") for folder in root.glob(pattern)]
    newest = checkpoints.newest_of(path for path in found if path is not None)
    if newest is None:
        raise FileNotFoundError(
            f"checkpoint is last, but {root / pattern} holds no complete checkpoint. Train first, set "
            "checkpoint=PATH, or checkpoint=null for the model of model.path as it is."
        )
    return newest


def loggers(cfg: DictConfig, run: Run) -> list[Logger]:
    """Make the loggers that are switched on; the CSV's folder is new at every start, as it cannot be appended to."""
    from lightning.pytorch.loggers import CSVLogger

    settings, made = cfg.exp_manager, []
    if settings.create_csv_logger:
        made.append(CSVLogger(run.dir, name="metrics", flush_logs_every_n_steps=1))
    if settings.create_tensorboard_logger:
        made.append(instantiate(settings.summary_writer_kwargs))
    if settings.create_wandb_logger:
        made.append(instantiate(settings.wandb_logger_kwargs, id=run_folder.wandb_id(run.dir)))
    return made


def callbacks(cfg: DictConfig) -> list[Callback]:
    """Make the callbacks that keep a run: checkpoints and the time limit. Call it after setup_run."""
    settings, last = cfg.exp_manager, Path(cfg.paths.run, "checkpoints", "last.ckpt")
    made: list[Callback] = [LastCheckpoint(last)]
    if settings.max_time_per_run:
        made.append(TimeLimit(settings.max_time_per_run, last))
    if settings.create_checkpoint_callback:
        made.append(instantiate(settings.checkpoint_callback_params))
    return [SameSettings(_of_every_rank(cfg)), *made]


def is_rank_zero() -> bool:
    """Whether this process is the first of all ranks; known before any process group exists."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def _root(cfg: DictConfig) -> Path:
    """Return exp_dir/name; in a sweep every job has its own folder below it, named after what is swept."""
    root = Path(cfg.exp_manager.exp_dir, cfg.exp_manager.name).absolute()
    job = os.environ.get(run_folder.SWEEP_JOB)
    return root / run_folder.safe_name(job) if job else root


def _shared_version(cfg: DictConfig) -> str | None:
    """Return a version that ranks which do not know each other agree on; None if they can ask rank zero."""
    if "SLURM_JOB_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return f"slurm_{os.environ['SLURM_JOB_ID']}"
    if cfg.trainer.num_nodes > 1 and not torchrun.is_launched():
        raise ValueError(
            "exp_manager.version is null, but several processes were started separately and would each choose a "
            "version of their own. Set exp_manager.version=NAME in the command of all of them."
        )
    return None


def _of_every_rank(cfg: DictConfig) -> dict[str, Any]:
    """Return what must be the same on every rank: settings that change a number, the run's folder, the checkpoint."""
    settings = dict(run_folder.leaves(OmegaConf.to_container(cfg, resolve=True)))
    return settings | {"paths.run": cfg.paths.run, "checkpoint": os.environ[_RESUME_FROM]}


def _to_json(run: Run) -> dict[str, str | None]:
    return {"dir": str(run.dir), "resume_from": run.resume_from and str(run.resume_from)}


def _from_json(run: dict[str, str | None]) -> Run:
    assert run["dir"] is not None
    checkpoint = run["resume_from"]
    return Run(dir=Path(run["dir"]), resume_from=None if checkpoint is None else Path(checkpoint))


def _named(cfg: DictConfig, folder: Path) -> Run:
    """Take the version that was asked for: go on in it, or start it, but overwrite nothing."""
    finished = (folder / run_folder.FINISHED).exists()
    checkpoint = checkpoints.newest_in(folder / "checkpoints")
    where = f"exp_manager.version is {folder.name}"
    if not cfg.exp_manager.resume_if_exists and (finished or checkpoint):
        raise ValueError(
            f"{where}, but {folder} holds a run already, and exp_manager.resume_if_exists is false. "
            "Choose another version, or set resume_if_exists to true to go on."
        )
    if finished:
        raise ValueError(
            f"{where}, but {folder} is finished. Choose another version; to train it further, raise "
            f"trainer.max_steps and delete {folder / run_folder.FINISHED}."
        )
    if is_rank_zero():
        folder.mkdir(parents=True, exist_ok=True)
        if not run_folder.claim(folder):
            raise ValueError(
                f"{where}, but another process is writing to {folder}. Choose another version."
            )
        if changes := run_folder.changes(cfg, folder):
            log.warning(
                "%s goes on with other settings than it was started with: %s.", folder, changes
            )
    return Run(dir=folder, resume_from=checkpoint)


def _next(cfg: DictConfig, root: Path) -> Run:
    """Go on in the newest unfinished version of the same settings, or start a new one.

    A version in which nothing has happened yet, as a fault of the data stopped it, counts as new.
    """
    versions = run_folder.versions(root)
    resumable = [folder for _, folder in reversed(versions) if run_folder.is_unfinished(folder)]
    reasons = []
    for folder in resumable if cfg.exp_manager.resume_if_exists else ():
        changes = run_folder.changes(cfg, folder)
        if not changes and run_folder.claim(folder):
            return Run(dir=folder, resume_from=checkpoints.newest_in(folder / "checkpoints"))
        reasons.append(
            f"{folder.name} is unfinished, but {changes or 'another process is writing to it'}"
        )
    if resumable and run_folder.is_untouched(resumable[0]) and run_folder.claim(resumable[0]):
        return Run(dir=resumable[0], resume_from=None)
    if reasons:
        log.info("A new version starts: %s.", reasons[0])
    number = versions[-1][0] + 1 if versions else 0
    while not run_folder.create(root / f"version_{number}"):
        number += 1
    return Run(dir=root / f"version_{number}", resume_from=None)
