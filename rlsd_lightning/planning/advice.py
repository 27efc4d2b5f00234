"""What to change where a run does not fit: concrete overrides, those first that cost least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.setup import Setup, num_trainable

MIN_COMPLETION_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One change, on top of those before it."""

    override: str
    """What to add to the command line."""
    why: str
    peak: float
    """Bytes of a GPU with it and those before it."""
    fits: bool


def advise(setup: Setup) -> list[Advice]:
    """Return changes until the run fits, or all there are. Changes that spare nothing are left out."""
    given: list[Advice] = []
    peak = plan_memory(setup).peak
    for change in CHANGES:
        for candidate, override, why in change(setup):
            needed = plan_memory(candidate).peak
            if needed >= peak:
                continue
            setup, peak = candidate, needed
            fits = needed <= setup.usable_bytes
            given.append(Advice(override=override, why=why, peak=needed, fits=fits))
            if fits:
                return given
            break
    return given


Candidates = Iterator[tuple[Setup, str, str]]


def more_micro_batches(setup: Setup) -> Candidates:
    """Cut the step into more micro-batches; no result changes. The smallest number that fits, or one completion each."""
    most = setup.workload.num_completions
    number = setup.workload.num_micro_batches
    candidates = []
    while number < most:
        number = min(2 * number, most)
        work = dataclasses.replace(setup.workload, num_micro_batches=number)
        candidates.append(dataclasses.replace(setup, workload=work))
    fitting = [c for c in candidates if plan_memory(c).peak <= setup.usable_bytes]
    for chosen in (fitting or candidates[-1:])[:1]:
        yield (
            chosen,
            f"trainer.accumulate_grad_batches={chosen.workload.num_micro_batches}",
            "smaller micro-batches; the same gradient",
        )


def checkpointing(setup: Setup) -> Candidates:
    """Compute activations anew."""
    if not setup.gradient_checkpointing:
        yield (
            dataclasses.replace(setup, gradient_checkpointing=True),
            "model.gradient_checkpointing=true",
            "activations are computed anew: a third more FLOPs in the update",
        )


def fewer_prompts_at_once(setup: Setup) -> Candidates:
    """Decode in smaller batches; the largest that fits, or one prompt at a time."""
    size, candidates = min(setup.max_batch_prompts, setup.workload.num_problems), []
    while size > 1:
        size = size // 2
        candidates.append(dataclasses.replace(setup, max_batch_prompts=size))
    fitting = [c for c in candidates if plan_memory(c).peak <= setup.usable_bytes]
    for chosen in (fitting or candidates[-1:])[:1]:
        yield (
            chosen,
            f"engine.max_batch_prompts={chosen.max_batch_prompts}",
            "fewer prompts decoded at a time: a smaller cache, longer rollouts",
        )


def next_stages(setup: Setup) -> Candidates:
    """Share more out among the ranks."""
    parallel = setup.parallel
    if parallel.world_size == 1:
        return
    order = ("ddp", "zero1", "zero2", "zero3")
    if parallel.kind not in order:
        return
    for kind in order[order.index(parallel.kind) + 1 :]:
        yield (
            dataclasses.replace(setup, parallel=dataclasses.replace(parallel, kind=kind)),
            f"trainer=deepspeed_{kind}",
            "optimizer, gradients and weights in parts"
            if kind == "zero3"
            else "more is shared out",
        )


def offload_optimizer(setup: Setup) -> Candidates:
    """Keep optimizer states in the host's memory."""
    if setup.parallel.kind.startswith("zero") and not setup.parallel.offload_optimizer:
        changed = dataclasses.replace(setup.parallel, offload_optimizer=True)
        yield (
            dataclasses.replace(setup, parallel=changed),
            f"trainer=deepspeed_{setup.parallel.kind}_offload",
            "optimizer states in the host's memory: a slower step",
        )


def freeze_vision(setup: Setup) -> Candidates:
    """Keep the vision tower as it is."""
    if setup.architecture.vision is not None and not setup.freeze_vision:
        trained = num_trainable(setup.architecture, freeze_vision=True)
        yield (
            dataclasses.replace(setup, freeze_vision=True, num_trainable=trained),
            "model.freeze_vision=true",
            "the vision tower stays as it is: another method",
        )


def shorter_completions(setup: Setup) -> Candidates:
    """Halve the limit until it fits."""
    tokens, candidates = setup.workload.longest_completion_tokens, []
    while tokens // 2 >= MIN_COMPLETION_TOKENS:
        tokens //= 2
        work = dataclasses.replace(
            setup.workload,
            longest_completion_tokens=tokens,
            completion_tokens=min(tokens, setup.workload.completion_tokens),
        )
        candidates.append(dataclasses.replace(setup, workload=work))
    fitting = [c for c in candidates if plan_memory(c).peak <= setup.usable_bytes]
    for chosen in (fitting or candidates[-1:])[:1]:
        limit = chosen.workload.longest_completion_tokens
        yield (
            chosen,
            f"rollout.sampling.max_completion_tokens={limit}",
            "shorter completions: another task",
        )


CHANGES: tuple[Callable[[Setup], Candidates], ...] = (
    more_micro_batches,
    checkpointing,
    fewer_prompts_at_once,
    next_stages,
    offload_optimizer,
    freeze_vision,
    shorter_completions,
)
"""In order of what they cost."""
