"""The LightningModule: holds the policy and the teacher, and runs the loss. Optimisation stays Lightning's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn

from rlsd_lightning.checkpoints import TRAINED_WEIGHTS
from rlsd_lightning.data.datamodule import Evaluation, EvaluationBatch
from rlsd_lightning.data.loader import RolloutLoader
from rlsd_lightning.evidence import TeacherEvidence, ask_teacher, divergence_from_teacher
from rlsd_lightning.interfaces import (
    CreditAssigner,
    MarksClipping,
    MeasuresGradients,
    RolloutEngine,
    ScheduledCredit,
    awake,
    needs_of,
    start_engine,
)
from rlsd_lightning.loss import PolicyLoss
from rlsd_lightning.metrics import Maximum, Mean, StepMetrics, grad_norm, masked_mean
from rlsd_lightning.models import Policy
from rlsd_lightning.models.family import ImageFeatures
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.records import TokenRecord
from rlsd_lightning.step_boundary import ends_step
from rlsd_lightning.stopwatch import Stopwatch
from rlsd_lightning.teacher import Teacher
from rlsd_lightning.types import Completion, Divergence, Problem, RolloutBatch

log = logging.getLogger(__name__)


class RLSDModule(lightning.LightningModule):
    """Trains a policy with per-token credit.

    Args:
        policy: the weights being trained.
        teacher: the weights that read the reference.
        credit: per-token advantages: the method.
        loss: the policy-gradient loss.
        optimizer: makes the optimizer from the trainable parameters.
        scheduler: makes the learning-rate scheduler from the optimizer; stepped once per optimizer step.
        temperature: the sampling temperature of the rollouts; log-probs are taken at it.
        engine: samples responses in evaluation and prediction.
        encoder: renders problems as prompts.
        evaluations: by name, in the order of the dataloaders.
        anchor: the frozen weights of a KL penalty; None where the loss has none.
        max_policy_lag: optimizer steps that the policy may be ahead of the weights which sampled its rollouts.
    """

    def __init__(
        self,
        policy: Policy,
        teacher: Teacher,
        credit: CreditAssigner,
        loss: PolicyLoss,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any],
        *,
        temperature: float,
        engine: RolloutEngine,
        encoder: PromptEncoder,
        evaluations: Mapping[str, Evaluation],
        anchor: Teacher | None = None,
        max_policy_lag: int = 0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(
                f"rollout.sampling.temperature is {temperature}: greedy completions of a problem are all alike. "
                "Set it above 0 (RLSD's launch script: 1.0)."
            )
        self.policy = policy
        self.teacher = teacher
        self.anchor = anchor
        self.credit = credit
        self.needs = needs_of(credit)
        self.loss = loss
        self.temperature = temperature
        self.engine = engine
        self.encoder = encoder
        self.evaluations = dict(evaluations)
        self.max_policy_lag = max_policy_lag
        self._encoders = {
            name: encoder if evaluation.prompt is None else encoder.showing(evaluation.prompt)
            for name, evaluation in self.evaluations.items()
        }
        self.metrics = nn.ModuleList(e.metric for e in self.evaluations.values())
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._step_metrics = StepMetrics()
        self._watch = Stopwatch()
        self._num_step_tokens = 0
        self._grad_norm = 0.0

    def setup(self, stage: str) -> None:
        """Start the engine, now that the ranks are together."""
        start_engine(self.engine)

    def configure_optimizers(self) -> Any:
        """Give the optimizer the trainable weights of the policy, and nothing of the teacher."""
        optimizer = self._optimizer([p for p in self.policy.parameters() if p.requires_grad])
        schedule = {"scheduler": self._scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_start(self) -> None:
        """Say so if the method's teacher is never asked; callbacks have set the first step's lambda by now."""
        if self.trainer.global_step or not isinstance(self.credit, ScheduledCredit):
            return
        if self.credit.lambda_ == 0:
            log.warning(
                "%s starts with lambda 0, which is plain GRPO. callbacks.lambda_decay with a peak above 0 sets it.",
                type(self.credit).__name__,
            )

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> dict[str, Any]:
        """Return the micro-batch's share of the step's loss, scaled for Lightning, and what it looked like."""
        self._check_lag(batch.policy_version)
        mask = batch.completion_mask
        with self._watch.phase("train"):
            features, nothing = self.policy.look_at(batch.images)
            states = self.policy.predictors(batch.student, mask, features)
            logprobs, entropy = self.policy.logprobs_and_entropy(
                states, batch.token_ids, mask, self.temperature
            )
        with self._watch.phase("teacher"):
            evidence = self._ask_teacher(batch, logprobs.detach(), features)
        anchor_logprobs = self._anchor_logprobs(batch)
        credit, credit_metrics = self.credit(
            batch.advantages, logprobs, evidence.logprobs, mask, **self._extras(batch, evidence)
        )
        loss, loss_metrics = self.loss(
            logprobs,
            batch.rollout_logprobs,
            credit,
            mask,
            num_tokens=batch.num_step_tokens,
            num_completions=batch.num_step_completions,
            anchor_logprobs=anchor_logprobs,
        )
        if self.needs.divergence is not None:
            extra, extra_metrics = self._divergence_loss(
                self.needs.divergence, batch, states, evidence
            )
            loss, loss_metrics = loss + extra, loss_metrics | extra_metrics
        self._step_metrics.add(batch.metrics | credit_metrics | loss_metrics)
        self._step_metrics.add({"loss/entropy": masked_mean(entropy, mask)})
        self._num_step_tokens = batch.num_step_tokens
        self._watch.start("backward")
        return {
            "loss": (loss + nothing) * self._loss_factor(),
            "record": TokenRecord(
                rollouts=batch.rollouts,
                completion_mask=mask,
                policy_logprobs=logprobs.detach(),
                teacher_logprobs=evidence.logprobs,
                credit=credit,
                step=self.trainer.global_step + 1,
                clipped=self.credit.clipped if isinstance(self.credit, MarksClipping) else None,
            ),
        }

    def _check_lag(self, version: int) -> None:
        """Refuse rollouts of weights that are too old, or that the policy has not had yet; note how old they are."""
        lag = self.trainer.global_step - version
        if not 0 <= lag <= self.max_policy_lag:
            raise RuntimeError(
                f"rollout.max_policy_lag is {self.max_policy_lag}, but the policy has taken {self.trainer.global_step} "
                f"optimizer steps, and these rollouts were sampled with the weights after {version}. Needed: a "
                f"difference of 0 to {self.max_policy_lag}. Hand the weights over more often "
                "(callbacks.weight_sync), or raise rollout.max_policy_lag and set loss.importance_cap=2.0."
            )
        if self.max_policy_lag:
            self._step_metrics.add({"rollout/policy_lag_max": Maximum(lag)})

    def on_after_backward(self) -> None:
        """End the micro-batch's clock."""
        self._watch.stop("backward")

    def _ask_teacher(
        self, batch: RolloutBatch, policy_logprobs: Tensor, features: ImageFeatures
    ) -> TeacherEvidence:
        """Ask the teacher, if the method has a use for it now."""
        if not self.credit.needs_teacher:
            return TeacherEvidence()
        teacher = self.teacher.weights(self.policy)
        is_asked = batch.teacher is not None
        if not self.teacher.shares_vision_with(self.policy) and (
            is_asked or teacher.placement.is_sharded
        ):
            with torch.no_grad():
                features, _ = teacher.look_at(batch.images)
        if not is_asked and teacher.placement.is_sharded:
            self._keep_in_step(teacher, batch, features)
        return ask_teacher(teacher, self.needs, batch, policy_logprobs, features, self.temperature)

    @torch.no_grad()
    def _keep_in_step(self, teacher: Policy, batch: RolloutBatch, features: ImageFeatures) -> None:
        """Run the forward passes that another rank's teacher may be running: they gather weights from all ranks."""
        for _ in range(1 + self.needs.contrast):
            teacher.predictors(batch.student, batch.completion_mask, features)

    def _extras(self, batch: RolloutBatch, evidence: TeacherEvidence) -> dict[str, Tensor | None]:
        """Return what the method takes by name, as its needs ask for."""
        extras = {}
        if self.needs.contrast:
            extras["contrast_logprobs"] = evidence.contrast_logprobs
        if self.needs.spans:
            extras["span_mask"] = batch.span_mask
        return extras

    def _divergence_loss(
        self, asked: Divergence, batch: RolloutBatch, states: Tensor, evidence: TeacherEvidence
    ) -> tuple[Tensor, dict[str, Mean]]:
        """Return the micro-batch's share of the mean distance between teacher and policy, and metrics."""
        values, scored = divergence_from_teacher(
            asked,
            batch,
            self.policy,
            states,
            self.teacher.weights(self.policy),
            evidence.states,
            self.temperature,
        )
        share = self.loss.mean_over_step(
            values, batch.completion_mask, batch.num_step_tokens, batch.num_step_completions
        )
        return asked.weight * share, {"loss/divergence": masked_mean(values, scored)}

    @torch.no_grad()
    def _anchor_logprobs(self, batch: RolloutBatch) -> Tensor | None:
        """Score the completions under the anchor, reading x as the policy does. [B, T]; None without one."""
        if self.anchor is None:
            return None
        with self._watch.phase("anchor"):
            anchor = self.anchor.weights(self.policy)
            features, _ = anchor.look_at(batch.images)
            return anchor.logprobs(
                batch.student, batch.token_ids, batch.completion_mask, features, self.temperature
            )

    def _loss_factor(self) -> float:
        """Undo every division that Lightning and the strategy make, so that gradients are those of the whole step.

        The loss of a micro-batch is already its share: a sum over its tokens divided by the tokens of the step, over
        all micro-batches and ranks. Lightning divides it by K, and DDP averages gradients over ranks.
        """
        return float(self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure the step's gradients: all of them are there, none is clipped yet."""
        if not isinstance(self.trainer.strategy, MeasuresGradients):
            gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
            self._grad_norm = grad_norm(gradients)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take the step and log it; some strategies come here for every micro-batch and step at the last one."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if not ends_step(self.trainer, batch_idx):
            return
        self._wait_for_rollouts()
        strategy = self.trainer.strategy
        if isinstance(strategy, MeasuresGradients):
            self._grad_norm = strategy.grad_norm()
        self._step_metrics.add(
            {
                "optim/grad_norm": Mean(self._grad_norm, 1),
                "optim/lr": Mean(optimizer.param_groups[0]["lr"], 1),
            }
        )
        self._step_metrics.add(self._watch.read())
        logged = self._step_metrics.reduce()
        seconds = sum(value for name, value in logged.items() if name.startswith("time/"))
        logged |= {"time/step_s": seconds, "time/tokens_per_s": self._num_step_tokens / seconds}
        # Lightning would count this step from 0; under the name "step" a number becomes the loggers' x-axis.
        self.log_dict(logged | {"step": float(self.trainer.global_step + 1)})

    def _wait_for_rollouts(self) -> None:
        """Let the rollouts that are made beside training be done, before a callback or an evaluation needs the engine."""
        loader = cast(RolloutLoader, self.trainer.train_dataloader)
        if loader.overlap:
            with self._watch.phase("rollout_wait"):
                loader.wait()

    def respond(self, problems: Sequence[Problem], name: str) -> list[list[Completion]]:
        """Sample responses to problems as an evaluation asks for.

        Args:
            problems: [P]
            name: of the evaluation.

        Returns:
            One group per problem. [P][samples_per_problem]
        """
        evaluation, encoder = self.evaluations[name], self._encoders[name]
        prompts = [encoder.student(problem) for problem in problems]
        with awake(self.engine):
            return self.engine.generate(
                prompts, evaluation.sampling, evaluation.samples_per_problem
            )

    def evaluation_name(self, dataloader_idx: int) -> str:
        """Return the name of the evaluation whose dataloader this is."""
        return list(self.evaluations)[dataloader_idx]

    def validation_step(
        self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Sample responses to a batch of problems and hand them to their evaluator."""
        answered = self.predict_step(batch, batch_idx, dataloader_idx)
        asked = [problem for problem, group in answered for _ in group]
        texts = [completion.text for _, group in answered for completion in group]
        self.evaluations[self.evaluation_name(dataloader_idx)].metric.update(asked, texts)

    def on_validation_epoch_end(self) -> None:
        """Log every number of every evaluator as val/<evaluator>/<number>."""
        self._log_evaluations("val")

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Log every number of every evaluator as test/<evaluator>/<number>."""
        self._log_evaluations("test")

    def predict_step(
        self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> list[tuple[Problem, list[Completion]]]:
        """Return the responses to those problems of a batch that count; a callback judges and stores them."""
        groups = self.respond(batch.problems, self.evaluation_name(dataloader_idx))
        return list(zip(batch.counted, batch.of_counted(groups), strict=True))

    def _log_evaluations(self, stage: str) -> None:
        self.log("step", float(self.trainer.global_step), add_dataloader_idx=False)
        for name, evaluation in self.evaluations.items():
            for number, value in evaluation.metric.compute().items():
                self.log(f"{stage}/{name}/{number}", value, add_dataloader_idx=False)
            evaluation.metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what the optimizer holds; keep evaluators out: they start afresh at every evaluation."""
        checkpoint[TRAINED_WEIGHTS] = [
            name for name, weight in self.named_parameters() if weight.requires_grad
        ]
        weights = checkpoint["state_dict"]
        for key in [key for key in weights if key.startswith("metrics.")]:
            del weights[key]
