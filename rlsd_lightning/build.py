"""Builds the parts of a run, each once, each with one owner: the one place where all rooms meet.

Faults are met in the order in which they cost least: data, prompts, gold answers, and only then weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from torch.utils.data import Subset

from rlsd_lightning.config import instantiate
from rlsd_lightning.data import StreamingProblems
from rlsd_lightning.data.canaries import Canaries
from rlsd_lightning.data.datamodule import Evaluation, RolloutDataModule
from rlsd_lightning.data.rollouts import RolloutCollector
from rlsd_lightning.data.supply import IndexedSupply, ProblemSupply, StreamSupply
from rlsd_lightning.interfaces import ChecksProblems, ever_asks_teacher, needs_of
from rlsd_lightning.loss import PolicyLoss
from rlsd_lightning.models import Policy, load_reader
from rlsd_lightning.module import RLSDModule
from rlsd_lightning.prompts import PromptEncoder, PromptTooLongError, filter_overlong
from rlsd_lightning.targets import locate
from rlsd_lightning.teacher import ExternalTeacher, FrozenTeacher, LiveTeacher, Teacher
from rlsd_lightning.types import Problem
from rlsd_lightning.verification import GoldJudge, check_gold, judge_gold
from rlsd_lightning.verifier_pool import VerifierPool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of."""

    module: RLSDModule
    datamodule: RolloutDataModule
    num_train_problems: int | None
    """Problems to train on; None where not known (a stream) or not asked for (evaluation)."""
    skipped_rows: list[tuple[str, str]]
    """Bad rows of the training set: location, reason."""
    num_overlong: int
    """Training problems left out because their prompt is too long."""


def build_training(cfg: DictConfig) -> Parts:
    """Build what `fit` needs.

    Args:
        cfg: a validated configuration.
    """
    _prepare(cfg)
    encoder = build_encoder(cfg)
    credit, verifier = instantiate(cfg.credit), instantiate(cfg.verifier)
    _check_teacher_can_read(cfg, encoder, credit)
    with ExitStack() as on_fault:
        pool, judge = None, judge_gold
        if cfg.verification.workers:
            pool = VerifierPool(**cfg.verification)
            on_fault.callback(pool.close)
            judge = pool.judge_gold
        supply, num_problems, skipped, num_overlong = _supply(cfg, encoder, credit, verifier, judge)
        if pool is not None:
            pool.start(verifier)  # before there are weights
        parts = _parts(cfg, encoder, credit, verifier, supply, pool)
        on_fault.pop_all()
    return Parts(
        **parts, num_train_problems=num_problems, skipped_rows=skipped, num_overlong=num_overlong
    )


def build_evaluation(cfg: DictConfig) -> Parts:
    """Build what `validate`, `test` and `predict` need: all but the training problems.

    Raises:
        ValueError: no evaluator is configured.
    """
    _require_evaluators(cfg)
    _prepare(cfg)
    encoder = build_encoder(cfg)
    parts = _parts(cfg, encoder, instantiate(cfg.credit), instantiate(cfg.verifier), supply=None)
    return Parts(**parts, num_train_problems=None, skipped_rows=[], num_overlong=0)


def build_evaluations(cfg: DictConfig) -> dict[str, Evaluation]:
    """Build what `score` needs: problems and metrics, no model.

    Raises:
        ValueError: no evaluator is configured.
    """
    _require_evaluators(cfg)
    return {name: instantiate(node) for name, node in cfg.evaluators.items()}


def _require_evaluators(cfg: DictConfig) -> None:
    if not cfg.evaluators:
        raise ValueError(
            "evaluators is empty, so there is nothing to evaluate. Choose one, such as evaluators=held_out "
            "evaluators.held_out.problems.path=test.jsonl."
        )


def _prepare(cfg: DictConfig) -> None:
    if cfg.prepare is not None:
        instantiate(cfg.prepare)


def build_encoder(cfg: DictConfig) -> PromptEncoder:
    """Build what turns problems into prompts, from the model's processor alone."""
    processor, family = load_reader(cfg.model.path, cfg.model.revision)
    return PromptEncoder(
        processor,
        instantiate(cfg.prompt),
        family,
        max_prompt_tokens=cfg.data.max_prompt_tokens,
        max_teacher_prompt_tokens=cfg.data.max_teacher_prompt_tokens,
        max_cached_images=cfg.data.max_cached_images,
    )


def _parts(
    cfg: DictConfig,
    encoder: PromptEncoder,
    credit: Any,
    verifier: Any,
    supply: ProblemSupply | None,
    pool: VerifierPool | None = None,
) -> dict[str, Any]:
    """Build module and datamodule around the engine, the encoder and the evaluations they share."""
    evaluations = build_evaluations(cfg) if cfg.evaluators else {}
    rollout, engine = instantiate(cfg.rollout), instantiate(cfg.engine)
    policy = instantiate(cfg.model)
    engine.bind(policy, encoder.tokenizer)
    loss = instantiate(cfg.loss)
    teacher, anchor = LiveTeacher(), None
    if supply is not None:
        teacher, anchor = _teacher_and_anchor(cfg, credit, loss, policy)
    module = RLSDModule(
        policy,
        teacher,
        credit,
        loss,
        instantiate(cfg.optim),
        instantiate(cfg.scheduler),
        temperature=rollout.sampling.temperature,
        engine=engine,
        encoder=encoder,
        evaluations=evaluations,
        anchor=anchor,
        max_policy_lag=rollout.max_policy_lag,
    )
    collector = RolloutCollector(
        engine,
        encoder,
        verifier,
        credit,
        rollout.group_size,
        rollout.advantages,
        rollout.overlength,
        pool,
    )
    return {
        "module": module,
        "datamodule": RolloutDataModule(supply, collector, rollout, evaluations),
    }


def _check_teacher_can_read(cfg: DictConfig, encoder: PromptEncoder, credit: Any) -> None:
    """Refuse a method whose teacher would have nothing of its own to read, or nothing of its own to say.

    Raises:
        ValueError: the prompt knows no siblings, or the policy would be its own teacher on the bare problem.
    """
    view = needs_of(credit).view
    if view == "siblings":
        encoder.template.check_siblings()
    if view == "student" and locate(cfg.teacher._target_) is not ExternalTeacher:
        raise ValueError(
            f"credit is {type(credit).__name__}, whose teacher reads the bare problem, and teacher is "
            f"{cfg.teacher._target_}, a copy of the policy: it would say nothing that the policy does not know. "
            "Choose teacher=external and a larger model: teacher.path=Qwen/Qwen3-VL-32B-Instruct."
        )


def _teacher_and_anchor(
    cfg: DictConfig, credit: Any, loss: PolicyLoss, policy: Policy
) -> tuple[Teacher, Teacher | None]:
    """Return the teacher and the anchor of the loss's KL penalty, with their copies of the policy.

    A method that never asks a teacher keeps no copy for it; a frozen teacher is the anchor, too.
    """
    teacher = instantiate(cfg.teacher) if ever_asks_teacher(credit) else LiveTeacher()
    teacher.bind(policy)
    if not loss.needs_anchor:
        return teacher, None
    if isinstance(teacher, FrozenTeacher):
        return teacher, teacher
    anchor = FrozenTeacher()
    anchor.bind(policy)
    return teacher, anchor


def _supply(
    cfg: DictConfig, encoder: PromptEncoder, credit: Any, verifier: Any, judge: GoldJudge
) -> tuple[ProblemSupply, int | None, list[tuple[str, str]], int]:
    """Return the training problems by step, their number, the bad rows, and how many prompts were too long."""
    with_teacher = ever_asks_teacher(credit) and needs_of(credit).view == "reference"
    needs_solution = with_teacher and encoder.template.reference != "answer"
    problems = instantiate(cfg.data.train, require_reference=needs_solution)
    per_step = cfg.rollout.problems_per_step
    if isinstance(problems, StreamingProblems):
        if cfg.data.canary_fraction:
            raise ValueError(
                f"data.canary_fraction is {cfg.data.canary_fraction}, but a stream has no other rows at hand to take a "
                "wrong reference from. Set it to 0, or train from files."
            )
        if cfg.rollout.refill_groups:
            raise ValueError(
                f"rollout.refill_groups is {cfg.rollout.refill_groups}, but a stream has no other rows at hand to "
                "replace a problem by. Set it to 0, or train from files."
            )
        accepts = _fits(encoder, cfg.data.on_overlong, with_teacher)
        return StreamSupply(problems.iterate, per_step, accepts), None, problems.skipped, 0
    kept, dropped = filter_overlong(
        problems, encoder, cfg.data.on_overlong, with_teacher=with_teacher
    )
    usable = Subset(problems, kept)
    if isinstance(verifier, ChecksProblems):
        verifier.check(usable[i] for i in range(len(usable)))
    check_gold(verifier, usable, cfg.verify_gold_problems, judge)
    planted = Canaries(usable, cfg.data.canary_fraction)
    supply = IndexedSupply(planted, per_step, cfg.data.shuffle, cfg.seed)
    return supply, len(usable), problems.skipped, len(dropped)


def _fits(
    encoder: PromptEncoder, on_overlong: str, with_teacher: bool
) -> Callable[[Problem], bool]:
    """Say of each problem of a stream whether its prompt fits; an error if too long ones are errors."""

    def fits(problem: Problem) -> bool:
        try:
            encoder.check(problem, with_teacher=with_teacher)
        except PromptTooLongError as error:
            if on_overlong == "error":
                raise
            log.warning("data: left out %s.", error)
            return False
        return True

    return fits
