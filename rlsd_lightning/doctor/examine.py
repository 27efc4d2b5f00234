"""All checks in the order in which they cost least; one that fails keeps none of the others from running."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rlsd_lightning import run_folder
from rlsd_lightning.build import build_encoder
from rlsd_lightning.config import instantiate
from rlsd_lightning.doctor.disk import CheckpointSize, check_disk, checkpoint_size, count_parameters
from rlsd_lightning.doctor.finding import Finding, attempt, left_out
from rlsd_lightning.doctor.gpus import check_gpus, find_gpus
from rlsd_lightning.doctor.inputs import check_data, check_gold_answers, check_prompts, check_spans
from rlsd_lightning.doctor.packages import check_packages
from rlsd_lightning.doctor.ranks import check_all_reduce, check_settings, process_group
from rlsd_lightning.doctor.sampling import check_logprobs
from rlsd_lightning.exp_manager import is_rank_zero
from rlsd_lightning.interfaces import ever_asks_teacher, needs_of, started
from rlsd_lightning.rules import num_processes
from rlsd_lightning.targets import locate
from rlsd_lightning.teacher import ExternalTeacher, LiveTeacher

NUM_ROWS = 64
"""So many rows are looked at."""


def examine(cfg: DictConfig) -> Iterator[Finding]:
    """Yield what each check finds, as it comes. On ranks other than zero: only of those that need all ranks.

    Args:
        cfg: a validated configuration.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    yield attempt("packages", check_packages)
    yield attempt("GPUs", lambda: check_gpus(find_gpus(), tree["trainer"]))
    yield from _ranks(tree)
    if is_rank_zero():
        yield attempt("disk", lambda: _disk(cfg))
        yield from _inputs_and_engine(cfg)


def _ranks(tree: dict[str, Any]) -> Iterator[Finding]:
    """Yield what needs a process group; where none can be formed, that alone."""
    uses_gpu = tree["trainer"]["accelerator"] != "cpu" and torch.cuda.is_available()
    try:
        with process_group("nccl" if uses_gpu else "gloo"):
            yield attempt("ranks", lambda: check_all_reduce(num_processes(tree)))
            yield attempt("settings", lambda: check_settings(dict(run_folder.leaves(tree))))
    except RuntimeError as error:
        yield Finding(
            check="ranks",
            level="fault",
            seen=f"the ranks cannot form a group: {error}.",
            advice="Each host must reach the first one by name, on every port; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME "
            "choose the network.",
        )


def _inputs_and_engine(cfg: DictConfig) -> Iterator[Finding]:
    """Yield what looks at data, prompts and model; each goes on with what the ones before have found."""
    credit = instantiate(cfg.credit)
    data = attempt("data", lambda: _data(cfg, credit))
    if data.level == "fault" and cfg.prepare is not None:
        advice = "`prepare` makes it when fit starts: start fit once before doctor, with this configuration."
        data = Finding(
            check="data", level="fault", seen=data.seen, advice=advice, result=data.result
        )
    yield data
    problems = data.result or []
    if not problems:
        for check in ("gold answers", "prompts", "spans", "log-probs"):
            yield left_out(check, "there is no usable row")
        return
    yield attempt("gold answers", lambda: check_gold_answers(instantiate(cfg.verifier), problems))
    reader = attempt("model", lambda: _reader(cfg))
    yield reader
    encoder = reader.result
    if encoder is None:
        for check in ("prompts", "spans", "log-probs"):
            yield left_out(check, "the model's processor could not be loaded")
        return
    overlong = cfg.data.on_overlong
    yield attempt("prompts", lambda: check_prompts(encoder, credit, problems, overlong))
    yield attempt("spans", lambda: check_spans(encoder, credit, problems[0]))
    yield attempt("log-probs", lambda: _logprobs(cfg, encoder, problems[:2]))


def _disk(cfg: DictConfig) -> Finding:
    settings = cfg.exp_manager
    kept = (
        settings.checkpoint_callback_params.save_top_k if settings.create_checkpoint_callback else 0
    )
    if kept < 0:
        kept = cfg.trainer.max_steps // settings.checkpoint_callback_params.every_n_train_steps
    return check_disk(Path(settings.exp_dir), _size(cfg), kept + 1)  # and the last one


def _size(cfg: DictConfig) -> CheckpointSize:
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    lora = model.get("lora")  # a yaml need not spell out what load_policy knows itself
    num_saved, num_trained = count_parameters(
        model["path"], model.get("revision"), model.get("freeze_vision", False), lora
    )
    kind = locate(cfg.teacher._target_)
    keeps_copy = ever_asks_teacher(instantiate(cfg.credit)) and (
        kind not in (LiveTeacher, ExternalTeacher) if lora is None else kind.follows_policy
    )
    dtype = torch.float32 if lora is not None else getattr(torch, model["dtype"])
    return checkpoint_size(num_saved, num_trained, dtype, int(keeps_copy))


def _data(cfg: DictConfig, credit: Any) -> Finding:
    shown = needs_of(credit).view == "reference" and ever_asks_teacher(credit)
    make = functools.partial(
        instantiate, cfg.data.train, require_reference=shown and cfg.prompt.reference != "answer"
    )
    limit = cfg.data.train.limit
    return check_data(make, min(NUM_ROWS, limit or NUM_ROWS), cfg.data.train.on_bad_row)


def _reader(cfg: DictConfig) -> Finding:
    encoder = build_encoder(cfg)
    seen = f"{cfg.model.path}: {type(encoder.family).__name__}, {len(encoder.tokenizer)} tokens."
    return Finding(check="model", level="ok", seen=seen, result=encoder)


def _logprobs(cfg: DictConfig, encoder: Any, problems: list[Any]) -> Finding:
    uses_gpu = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    policy, engine = instantiate(cfg.model), instantiate(cfg.engine)
    policy.to("cuda" if uses_gpu else "cpu")
    engine.bind(policy, encoder.tokenizer)
    sampling = instantiate(cfg.rollout).sampling
    precision = str(cfg.trainer.precision)
    with started(engine):
        return check_logprobs(policy, engine, encoder, problems, sampling, precision)
