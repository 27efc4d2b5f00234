"""Policy -> rollout engine after every optimizer step, and proof that it has arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.interfaces import (
    HasReplicas,
    NamesItsWeights,
    RolloutEngine,
    TracesLayers,
    awake,
)
from rlsd_lightning.phase_watch import PhaseWatch
from rlsd_lightning.step_boundary import ends_step
from rlsd_lightning.types import Prompt, Sampling
from rlsd_lightning.weight_check import (
    TOLERANCES,
    bits_of,
    first_layer_that_differs,
    fixed_prompts,
    gap_of,
)
from rlsd_lightning.weights import named_weights, weight_names

log = logging.getLogger(__name__)

_ADVICE = (
    "Another rank, or the engine, has stopped answering: look at its log and start the run again."
)


class WeightSync(Callback):
    """Hands the policy's weights to an engine that keeps a copy, and checks that it samples from them.

    Acts before the first rollout (on_train_start, so a resumed run too), on the last micro-batch of a step
    (on_train_batch_end), before the loader makes the next rollouts, and before an evaluation that would see older weights.
    An engine that shares the policy's weights is always current.

    A sync is checked in three ways: the names of all weights before anything is sent, the values on their way, and
    log-probs of a few tokens behind fixed prompts, which the engine samples and the trainer scores. It logs what it
    cost: sync/seconds, sync/check_seconds of them, and sync/logprob_gap, in nats.

    Args:
        every_n_steps: a larger number than 1 makes rollouts older: see rollout.max_policy_lag.
        verify: False hands weights over without looking at log-probs.
        on_mismatch: "stop" the run, "resync" once and stop if that does not help, or "warn" and go on.
        tolerance: the largest mean difference of log-probs, in nats; None for weight_check.TOLERANCES.
        num_tokens: sampled per prompt.
        timeout_s: how long one phase of a sync may take; then the process ends.
    """

    def __init__(
        self,
        every_n_steps: int = 1,
        *,
        verify: bool = True,
        on_mismatch: Literal["stop", "resync", "warn"] = "stop",
        tolerance: float | None = None,
        num_tokens: int = 2,
        timeout_s: float = 1800.0,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(
                f"callbacks.weight_sync.every_n_steps is {every_n_steps}. Set it to 1 or more."
            )
        if on_mismatch not in ("stop", "resync", "warn"):
            raise ValueError(
                f"callbacks.weight_sync.on_mismatch is {on_mismatch!r}. Set it to stop, resync or warn."
            )
        self._every_n_steps = every_n_steps
        self._verify = verify
        self._on_mismatch = on_mismatch
        self._tolerance = tolerance
        self._num_tokens = num_tokens
        self._timeout_s = timeout_s
        self._version: int | None = None
        self._names_are_checked = False
        self._prompts: list[Prompt] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start from the policy's weights as they are after a resume."""
        self._sync(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Hand the new weights over."""
        if ends_step(trainer, batch_idx) and trainer.global_step % self._every_n_steps == 0:
            pl_module.log_dict(self._sync(trainer, pl_module))

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Evaluate the weights as they are."""
        if self._version != trainer.global_step or trainer.state.fn != TrainerFn.FITTING:
            self._sync(trainer, pl_module)

    def on_test_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Evaluate the weights as they are."""
        self._sync(trainer, pl_module)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Answer with the weights as they are."""
        self._sync(trainer, pl_module)

    def _sync(self, trainer: lightning.Trainer, pl_module: Any) -> dict[str, float]:
        """Hand the weights over and check them; return what it cost and found. Every rank comes here."""
        if pl_module.engine.shares_policy_weights:
            return {}
        watch = PhaseWatch("weight sync", self._timeout_s, trainer.global_rank, _ADVICE)
        started = time.perf_counter()
        with _agreeing(trainer):
            self._hand_over(trainer, pl_module, watch)
        handed_over = time.perf_counter()
        gap = self._check(trainer, pl_module, watch) if self._verify else {}
        ended = time.perf_counter()
        self._version = trainer.global_step
        return {
            "sync/seconds": ended - started,
            "sync/check_seconds": ended - handed_over,
            **gap,
        }

    def _hand_over(self, trainer: lightning.Trainer, pl_module: Any, watch: PhaseWatch) -> None:
        engine, policy = pl_module.engine, pl_module.policy
        if not self._names_are_checked and isinstance(engine, NamesItsWeights):
            with watch.phase("comparing names"):
                engine.check_names(weight_names(policy))
        self._names_are_checked = True
        named = named_weights(policy)
        with watch.phase("handing weights over"):
            try:
                engine.load_weights(named, trainer.global_step)
            finally:
                for _ in named:  # the other ranks gather on
                    pass

    def _check(
        self, trainer: lightning.Trainer, pl_module: Any, watch: PhaseWatch
    ) -> dict[str, float]:
        """Compare log-probs; do what on_mismatch says where they differ."""
        gap = self._largest_gap(trainer, pl_module, watch)
        if self._is_close(trainer, pl_module.engine, gap):
            return {"sync/logprob_gap": gap}
        if self._on_mismatch == "resync":
            log.warning("weight sync: log-probs differ by %.2g nats; once more.", gap)
            with _agreeing(trainer):
                self._hand_over(trainer, pl_module, watch)
            gap = self._largest_gap(trainer, pl_module, watch)
            if self._is_close(trainer, pl_module.engine, gap):
                return {"sync/logprob_gap": gap}
        message = self._explain(trainer, pl_module, gap, watch)
        if self._on_mismatch != "warn":
            raise EngineError(message)
        log.warning(message)
        return {"sync/logprob_gap": gap}

    def _largest_gap(self, trainer: lightning.Trainer, pl_module: Any, watch: PhaseWatch) -> float:
        """Return the largest mean difference of log-probs over the engine's copies and the ranks."""
        self._prompts = self._prompts or fixed_prompts(pl_module.encoder)
        sampling = Sampling(
            max_completion_tokens=self._num_tokens, temperature=pl_module.temperature
        )
        copies = [replica for _, replica in _copies(pl_module.engine)]
        # All ranks have sampled before any scores: where weights are sharded a forward pass waits for every rank.
        with (
            watch.phase("sampling a few tokens"),
            _agreeing(trainer),
            awake(pl_module.engine),
            trainer.precision_plugin.forward_context(),  # in which rollouts are sampled, too
        ):
            sampled = [replica.generate(self._prompts, sampling, 1) for replica in copies]
        with watch.phase("comparing log-probs"), trainer.precision_plugin.forward_context():
            means = [
                gap_of(pl_module.policy, replica, self._prompts, groups, sampling.temperature)
                .mean()
                .item()
                for replica, groups in zip(copies, sampled, strict=True)
            ]
        largest = max((nan_is_large(mean) for mean in means), default=0.0)
        table = torch.tensor(largest, device=trainer.strategy.root_device)
        return float(trainer.strategy.reduce(table, reduce_op="max"))

    def _is_close(self, trainer: lightning.Trainer, engine: RolloutEngine, gap: float) -> bool:
        return gap <= self._limit(bits_of(str(trainer.precision), engine))

    def _limit(self, bits: str) -> float:
        return TOLERANCES[bits] if self._tolerance is None else self._tolerance

    def _explain(
        self, trainer: lightning.Trainer, pl_module: Any, gap: float, watch: PhaseWatch
    ) -> str:
        """Say what differs, as far as it can be found. Every rank comes here."""
        engine, bits = pl_module.engine, bits_of(str(trainer.precision), pl_module.engine)
        where = []
        with (
            watch.phase("looking for what differs"),
            awake(engine),
            trainer.precision_plugin.forward_context(),
        ):
            for name, replica in _copies(engine):
                if isinstance(replica, TracesLayers):
                    layer = first_layer_that_differs(pl_module.policy, replica, self._prompts, bits)
                    where.append(f"{name}: {_where(layer)}")
        return (
            f"weight sync: at version {trainer.global_step} the engine's log-probs differ from the trainer's by {gap:.2g} "
            f"nats on average; {self._limit(bits):g} is the most at {bits} bits (callbacks.weight_sync.tolerance). "
            f"{' '.join(where)} Rollouts would not be of the policy that is trained."
        )


def _where(layer: str | None) -> str:
    if layer is not None:
        return f"the first layer that differs is {layer}."
    return (
        "all layers agree as long as nothing is cached, so it is the final norm, the output embedding, or a cache with "
        "values of older weights."
    )


def nan_is_large(mean: float) -> float:
    """Return a mean that compares: a difference that is no number is larger than any.

    Example:
        >>> nan_is_large(0.5), nan_is_large(float("nan"))
        (0.5, inf)
    """
    return mean if mean == mean else float("inf")


def _copies(engine: Any) -> list[tuple[str, Any]]:
    """Return an engine's copies by name; an engine without is its own only one."""
    return engine.replicas() if isinstance(engine, HasReplicas) else [("engine", engine)]


@contextmanager
def _agreeing(trainer: lightning.Trainer) -> Iterator[None]:
    """Raise an EngineError on every rank if one rises on any: the others would wait for that rank for ever."""
    error: EngineError | None = None
    try:
        yield
    except EngineError as raised:
        error = raised
    if trainer.strategy.reduce_boolean_decision(error is not None, all=False):
        raise error or EngineError(
            "weight sync: another rank's engine failed; its own message says how."
        )
