"""What to change where a run does not fit: concrete overrides, those first that cost least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlsd_lightning.models.adapters import LANGUAGE_LAYERS
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.setup import Kind, Setup, num_trainable

MIN_COMPLETION_TOKENS = 512
"""Shorter limits are no advice."""
LORA_RANK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way of changing a run."""

    setup: Setup
    override: str
    """What to add to the command line."""
    price: str
    """What it costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One change, on top of those before it."""

    override: str
    price: str
    peak: float
    """Bytes of a GPU with it and those before it."""
    fits: bool


def advise(setup: Setup) -> list[Advice]:
    """Return changes until the run fits, or all that help. Of one kind of change the mildest that does the most."""
    given: list[Advice] = []
    for change in CHANGES:
        missing = excess(setup)
        if missing == 0:
            break
        best = min(change(setup), key=lambda candidate: excess(candidate.setup), default=None)
        if best is None or excess(best.setup) >= missing:
            continue
        setup = best.setup
        given.append(
            Advice(
                override=best.override,
                price=best.price,
                peak=plan_memory(setup).peak,
                fits=excess(setup) == 0,
            )
        )
    return given


def excess(setup: Setup) -> float:
    """Return by how many bytes the phases are too large, added up: a change may mend one of several."""
    memory = plan_memory(setup)
    return sum(max(0.0, memory.total(phase) - setup.usable_bytes) for phase in memory.phases)


def more_micro_batches(setup: Setup) -> Iterator[Candidate]:
    """Cut the step into more micro-batches, up to one completion each; no result changes."""
    most, number = setup.workload.num_completions, setup.workload.num_micro_batches
    while number < most:
        number = min(2 * number, most)
        yield Candidate(
            setup=_with_work(setup, num_micro_batches=number),
            override=f"trainer.accumulate_grad_batches={number}",
            price="smaller micro-batches; the same gradient",
        )


def gradient_checkpointing(setup: Setup) -> Iterator[Candidate]:
    """Compute activations anew."""
    if not setup.gradient_checkpointing:
        yield Candidate(
            setup=dataclasses.replace(setup, gradient_checkpointing=True),
            override="model.gradient_checkpointing=true",
            price="activations are computed anew: a third more FLOPs in the update",
        )


def fewer_prompts_at_once(setup: Setup) -> Iterator[Candidate]:
    """Decode in smaller batches, down to one prompt."""
    size = min(setup.max_batch_prompts, setup.workload.num_problems)
    while size > 1:
        size //= 2
        yield Candidate(
            setup=dataclasses.replace(setup, max_batch_prompts=size),
            override=f"engine.max_batch_prompts={size}",
            price="a smaller cache; longer rollouts",
        )


def next_stages(setup: Setup) -> Iterator[Candidate]:
    """Share more out among the ranks."""
    order: tuple[Kind, ...] = ("ddp", "zero1", "zero2", "zero3")
    parallel = setup.parallel
    if parallel.world_size == 1 or parallel.kind not in order:
        return
    for kind in order[order.index(parallel.kind) + 1 :]:
        offload = "_offload" if parallel.offload_optimizer else ""
        yield Candidate(
            setup=dataclasses.replace(setup, parallel=dataclasses.replace(parallel, kind=kind)),
            override=f"trainer=deepspeed_{kind}{offload}",
            price="weights are gathered for every pass"
            if kind == "zero3"
            else "more is shared out",
        )


def offload_optimizer(setup: Setup) -> Iterator[Candidate]:
    """Keep optimizer states in the host's memory."""
    parallel = setup.parallel
    if parallel.kind.startswith("zero") and not parallel.offload_optimizer:
        changed = dataclasses.replace(parallel, offload_optimizer=True)
        yield Candidate(
            setup=dataclasses.replace(setup, parallel=changed),
            override=f"trainer=deepspeed_{parallel.kind}_offload",
            price="optimizer states in the host's memory: a slower step",
        )


def adapters_only(setup: Setup) -> Iterator[Candidate]:
    """Train LoRA's adapters in place of all weights; the teacher then needs no copy of the model."""
    if setup.num_adapter_sets:
        return
    trained = setup.architecture.text.adapter_weights(LORA_RANK, LANGUAGE_LAYERS)
    external = setup.external_teacher_dtype is not None
    follows = setup.num_teacher_params > 0 and not external and setup.teacher_follows
    yield Candidate(
        setup=dataclasses.replace(
            setup,
            num_trainable=trained,
            num_adapter_sets=2 if follows else 1,
            num_teacher_params=setup.num_teacher_params if external else 0,
            anchor_copies=False,
            freeze_vision=True,
        ),
        override=f"model.lora={{rank: {LORA_RANK}, alpha: {2 * LORA_RANK}}}",
        price="adapters are trained in place of all weights",
    )


def freeze_vision(setup: Setup) -> Iterator[Candidate]:
    """Keep the vision tower as it is."""
    if setup.architecture.vision is not None and not setup.freeze_vision:
        trained = num_trainable(setup.architecture, freeze_vision=True)
        yield Candidate(
            setup=dataclasses.replace(setup, freeze_vision=True, num_trainable=trained),
            override="model.freeze_vision=true",
            price="the vision tower does not learn",
        )


def shorter_completions(setup: Setup) -> Iterator[Candidate]:
    """Halve the limit."""
    work, tokens = setup.workload, setup.workload.longest_completion_tokens
    while tokens // 2 >= MIN_COMPLETION_TOKENS:
        tokens //= 2
        average = min(tokens, work.completion_tokens)
        yield Candidate(
            setup=_with_work(setup, longest_completion_tokens=tokens, completion_tokens=average),
            override=f"rollout.sampling.max_completion_tokens={tokens}",
            price="longer answers are cut off",
        )


def _with_work(setup: Setup, **changes: int) -> Setup:
    return dataclasses.replace(setup, workload=dataclasses.replace(setup.workload, **changes))


CHANGES: tuple[Callable[[Setup], Iterator[Candidate]], ...] = (
    more_micro_batches,
    gradient_checkpointing,
    fewer_prompts_at_once,
    next_stages,
    offload_optimizer,
    adapters_only,
    freeze_vision,
    shorter_completions,
)
"""In the order of what they cost."""
