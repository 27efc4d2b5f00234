"""Runs a command on what `build` has built: fit, validate, test, score, predict, export, plan."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig

from rlsd_lightning import exp_manager, scoreboard, torchrun
from rlsd_lightning.audit import audit
from rlsd_lightning.build import Parts, build_evaluation, build_evaluations, build_training
from rlsd_lightning.checkpoints import load_policy_weights
from rlsd_lightning.config import instantiate, validate
from rlsd_lightning.console import quieten_libraries
from rlsd_lightning.data.datamodule import Evaluation
from rlsd_lightning.doctor.command import doctor
from rlsd_lightning.export import export_policy
from rlsd_lightning.interfaces import closed_at_end
from rlsd_lightning.models import Policy, load_reader
from rlsd_lightning.planning.command import plan
from rlsd_lightning.report import write_report
from rlsd_lightning.responses import ResponseFolder, read_responses
from rlsd_lightning.scoring import Benchmark
from rlsd_lightning.serve import serve
from rlsd_lightning.summary import Summary, closing_words

log = logging.getLogger(__name__)

Metrics = dict[str, float]

_WRITERS = ("prediction_writer", "response_writer")
"""Callbacks of predict and test, which have no place in training."""


def run(cfg: DictConfig, command: str) -> Metrics:
    """Run one command and return its metrics.

    Args:
        cfg: the composed configuration, conf/config.yaml.
        command: one of COMMANDS.
    """
    validate(cfg, command)
    quieten_libraries()
    lightning.seed_everything(cfg.seed, verbose=False)
    if cfg.num_threads is not None:
        torch.set_num_threads(cfg.num_threads)
    return COMMANDS[command](cfg)


def fit(cfg: DictConfig) -> Metrics:
    """Train; evaluate before and after; leave checkpoints, rollouts, metrics, a summary and a report."""
    started = time.time()
    this = exp_manager.setup_run(cfg)
    parts = build_training(cfg)
    training = [name for name, node in cfg.callbacks.items() if node and name not in _WRITERS]
    trainer = _trainer(cfg, training, this)
    summary = Summary(this.dir / "summary.json", is_writer=exp_manager.is_rank_zero())
    summary.write(**_facts(cfg, parts), command=sys.argv, started=started, finished=False)
    with closed_at_end(parts.module.engine):
        if this.resume_from is None:
            summary.write(warm_start=_evaluate(trainer, parts), resumed_at_steps=[])
        else:
            log.info("Going on from %s.", this.resume_from)
        trainer.fit(
            parts.module,
            datamodule=parts.datamodule,
            ckpt_path=this.resume_from,
            weights_only=False,
        )
        if trainer.global_step < trainer.max_steps:
            return {}
        final = (
            _numbers(trainer) if _ended_with_validation(cfg.trainer) else _evaluate(trainer, parts)
        )
    summary.write(final=final, seconds=time.time() - started, finished=True)
    exp_manager.mark_finished(this)
    if trainer.is_global_zero:
        print(closing_words(summary.values, this.dir, write_report(this.dir)))
    return final


def evaluate(cfg: DictConfig) -> Metrics:
    """Score the policy on every evaluation as training does in between, and print all numbers."""
    parts = build_evaluation(cfg)
    _load_checkpoint(cfg, parts.module.policy)
    with closed_at_end(parts.module.engine):
        metrics = _evaluate(_trainer(cfg, _evaluating(cfg)), parts)
    for name, value in sorted(metrics.items()):
        print(f"{name:50s} {value:.4f}")
    return metrics


def predict(cfg: DictConfig) -> Metrics:
    """Write completions with verdicts as JSONL, one file per evaluation."""
    parts = build_evaluation(cfg)
    source = _load_checkpoint(cfg, parts.module.policy)
    cfg.paths.output = cfg.paths.output or str(source.folder / "predictions")
    trainer = _trainer(cfg, _evaluating(cfg, "prediction_writer"))
    with closed_at_end(parts.module.engine):
        trainer.predict(parts.module, datamodule=parts.datamodule, return_predictions=False)
    print(f"Completions with verdicts are in {cfg.paths.output}.")
    return {}


def test(cfg: DictConfig) -> Metrics:
    """Score the policy for the record: keep every response, print one table, go on where an earlier test stopped."""
    parts = build_evaluation(cfg)
    source = _load_checkpoint(cfg, parts.module.policy)
    cfg.paths.output = cfg.paths.output or str(source.folder / "test" / source.tag)
    folder = ResponseFolder(Path(cfg.paths.output))
    evaluations = parts.module.evaluations
    for name, evaluation in evaluations.items():
        made_with = {"weights": source.weights} | scoreboard.describe(
            evaluation, parts.module.encoder.template
        )
        folder.check(name, made_with, is_writer=exp_manager.is_rank_zero())
        if answered := folder.load(name, evaluation.samples_per_problem):
            num_left_out = parts.datamodule.leave_out(name, answered)
            log.info("test: %s goes on after %d problems.", name, num_left_out)
    trainer = _trainer(cfg, _evaluating(cfg, "response_writer"))
    with closed_at_end(parts.module.engine):
        trainer.predict(parts.module, datamodule=parts.datamodule, return_predictions=False)
    trainer.strategy.barrier()  # another rank may still be writing
    if not trainer.is_global_zero:
        return {}
    for name, evaluation in evaluations.items():
        folder.finish(name, evaluation.samples_per_problem)
    files = {name: folder.path(name, rank=0) for name in evaluations}
    return _score_files(evaluations, files, folder.folder, source.weights)


def score(cfg: DictConfig) -> Metrics:
    """Score responses that are there already, with no model at all, and print one table."""
    place, names = Path(cfg.responses), list(cfg.evaluators)
    if place.is_dir():
        files, folder = {name: place / f"{name}.jsonl" for name in names}, place
    elif len(names) <= 1:
        files, folder = {name: place for name in names}, place.parent / f"{place.stem}.scores"
    else:
        raise ValueError(
            f"responses is the one file {place}, but evaluators has {', '.join(names)}. Needed: a folder with "
            "<evaluator>.jsonl for each. Give the folder, or choose one evaluator."
        )
    return _score_files(build_evaluations(cfg), files, Path(cfg.paths.output or folder), str(place))


def _score_files(
    evaluations: Mapping[str, Evaluation], files: Mapping[str, Path], folder: Path, source: str
) -> Metrics:
    """Score one file of responses per evaluation; print the table and write it beside every number and every verdict."""
    rows = []
    for name, evaluation in evaluations.items():
        if isinstance(evaluation.metric, Benchmark) and evaluation.metric.audit_path is None:
            evaluation.metric.audit_path = folder / f"{name}.audit.jsonl"
        rows.append(scoreboard.score(name, evaluation, read_responses(files[name])))
    scoreboard.write(rows, folder, about={"source": source})
    print(scoreboard.as_text(rows))
    print(f"Every number is in {folder / 'scores.json'}, the table also in {folder / 'scores.md'}.")
    return {f"test/{row.benchmark}/{k}": v for row in rows for k, v in row.numbers.items()}


def export(cfg: DictConfig) -> Metrics:
    """Write the policy as a Hugging Face folder and load it again to prove that it is one."""
    processor, _ = load_reader(cfg.model.path, cfg.model.revision)
    policy = instantiate(cfg.model)
    source = _load_checkpoint(cfg, policy)
    folder = Path(cfg.paths.output or source.folder / "export")
    export_policy(policy, processor, folder)
    print(
        f"Exported to {folder}; loaded again with transformers, its weights and vocabulary are the same."
    )
    return {}


COMMANDS: dict[str, Callable[[DictConfig], Metrics]] = {
    "fit": fit,
    "validate": evaluate,
    "test": test,
    "score": score,
    "predict": predict,
    "export": export,
    "audit": audit,
    "doctor": doctor,
    "plan": plan,
    "serve-rollouts": serve,
}


def _trainer(
    cfg: DictConfig, callbacks: Iterable[str], this: exp_manager.Run | None = None
) -> lightning.Trainer:
    """Make the trainer with the named callbacks, and with loggers if this is a run, once every rank has come so far."""
    torchrun.meet()
    made = [instantiate(cfg.callbacks[name]) for name in callbacks]
    if this is None:
        return instantiate(cfg.trainer, callbacks=made, logger=False, enable_checkpointing=False)
    return instantiate(
        cfg.trainer,
        callbacks=made + exp_manager.callbacks(cfg),
        logger=exp_manager.loggers(cfg, this),
        **_validation_times(cfg.trainer),
    )


def _evaluating(cfg: DictConfig, *more: str) -> list[str]:
    """Return the names of the callbacks of an evaluation: the engine gets its weights there, too."""
    names = ["weight_sync", "progress", *more]
    return [name for name in names if cfg.callbacks.get(name)]


def _validation_times(trainer: DictConfig) -> dict[str, Any]:
    """Translate val_check_interval from optimizer steps, as we count, into micro-batches, as Lightning does."""
    if trainer.val_check_interval is None:
        return {}
    interval = trainer.val_check_interval * trainer.accumulate_grad_batches
    return {"val_check_interval": interval, "check_val_every_n_epoch": None}


def _evaluate(trainer: lightning.Trainer, parts: Parts) -> Metrics:
    """Run Lightning's own loop over all evaluations; no numbers without evaluations."""
    if not parts.datamodule.evaluations:
        return {}
    trainer.validate(parts.module, datamodule=parts.datamodule, verbose=False)
    return _numbers(trainer)


def _numbers(trainer: lightning.Trainer) -> Metrics:
    """Return the numbers of the last evaluation."""
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}


def _ended_with_validation(trainer: DictConfig) -> bool:
    """Say whether Lightning evaluated the final weights already."""
    return trainer.val_check_interval is None or trainer.max_steps % trainer.val_check_interval == 0


def _facts(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    return {
        "max_steps": cfg.trainer.max_steps,
        "problems_per_step": cfg.rollout.problems_per_step,
        "group_size": cfg.rollout.group_size,
        "num_train_problems": parts.num_train_problems,
        "skipped_rows": parts.skipped_rows,
        "filtered_prompts": parts.num_overlong,
    }


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the weights of an evaluation came from."""

    folder: Path
    """The run's, or where a run of this name would lie."""
    weights: str
    """Their name for records: the model, or the checkpoint with its step."""
    tag: str
    """Their name for a folder: "step_200", or the model's own."""


def _load_checkpoint(cfg: DictConfig, policy: Policy) -> _Source:
    """Load the weights of `checkpoint`; say where they came from."""
    if cfg.checkpoint is None:
        return _Source(
            Path(cfg.paths.runs) / cfg.exp_manager.name,
            str(cfg.model.path),
            Path(cfg.model.path).name,
        )
    path = exp_manager.last_checkpoint(cfg) if cfg.checkpoint == "last" else Path(cfg.checkpoint)
    step = load_policy_weights(path, policy)
    log.info("Weights from %s.", path)
    return _Source(path.parent.parent, f"{path} (step {step})", f"step_{step}")
