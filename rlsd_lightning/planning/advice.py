"""What to change where a run does not fit: concrete overrides, those first that cost least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlsd_lightning.models.adapters import LANGUAGE_LAYERS
from rlsd_lightning.planning.engines import PolicyEngine, ServingEngine
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.serving import missing_cache_bytes
from rlsd_lightning.planning.setup import Kind, Setup, num_trainable

MIN_COMPLETION_TOKENS = 512
"""Shorter limits are no advice."""
LORA_RANK = 32
UTILIZATIONS = tuple(step / 20 for step in range(19, 1, -1))
"""Shares of a GPU for the engine: 0.95, 0.9, ... 0.1."""


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
    """Return by how many bytes the phases are too large, and the engine's cache too small.

    They are added up: a change may mend one of several.
    """
    memory = plan_memory(setup)
    over = sum(max(0.0, memory.total(phase) - setup.usable_bytes) for phase in memory.phases)
    return over + missing_cache_bytes(setup)


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
    if not isinstance(setup.engine, PolicyEngine):
        return
    size = min(setup.engine.max_batch_prompts, setup.workload.num_problems)
    while size > 1:
        size //= 2
        engine = dataclasses.replace(setup.engine, max_batch_prompts=size)
        yield Candidate(
            setup=dataclasses.replace(setup, engine=engine),
            override=f"engine.max_batch_prompts={size}",
            price="a smaller cache; longer rollouts",
        )


def narrow_engine(setup: Setup) -> Iterator[Candidate]:
    """Have the engine compute as the policy does in mixed precision, where matrix products are bfloat16."""
    engine = _engine_here(setup)
    if engine is not None and engine.dtype == "float32" and setup.precision.matmul == 2:
        yield Candidate(
            setup=dataclasses.replace(setup, engine=dataclasses.replace(engine, dtype="bfloat16")),
            override="engine.dtype=bfloat16",
            price="as the policy's matrix products are already",
        )


def sleeping_engine(setup: Setup) -> Iterator[Candidate]:
    """Give the engine's memory back while the policy is trained."""
    engine = _engine_here(setup)
    if engine is not None and engine.sleep_level == 0:
        yield Candidate(
            setup=dataclasses.replace(setup, engine=dataclasses.replace(engine, sleep_level=1)),
            override="engine.sleep_level=1",
            price="the engine's weights wait in the host's memory",
        )


def another_cache(setup: Setup) -> Iterator[Candidate]:
    """Give the engine another share of the GPU, and no place for completions longer than there are."""
    yield from _engines(setup, ranks=1)


def shared_engine(setup: Setup) -> Iterator[Candidate]:
    """Let several ranks of a node share an engine: each keeps a part of its weights."""
    ranks = 2
    while setup.parallel.gpus_per_node % ranks == 0:
        yield from _engines(setup, ranks)
        ranks *= 2


def _engines(setup: Setup, ranks: int) -> Iterator[Candidate]:
    """Yield engines of so many ranks, or of more where there are more already."""
    engine, work = _engine_here(setup), setup.workload
    if engine is None:
        return
    ranks = max(ranks, engine.tensor_parallel_size)
    longest = work.longest_prompt_tokens + work.longest_completion_tokens
    for max_model_len in (engine.max_model_len, min(engine.max_model_len, longest)):
        for cache in _cache_sizes(engine):
            other = dataclasses.replace(
                engine, tensor_parallel_size=ranks, max_model_len=max_model_len, **cache
            )
            changed = [
                f"engine.{name}={getattr(other, name)}"
                for name in ("tensor_parallel_size", "max_model_len", *cache)
                if getattr(other, name) != getattr(engine, name)
            ]
            if changed:
                yield Candidate(
                    setup=dataclasses.replace(setup, engine=other),
                    override=" ".join(changed),
                    price=_price(engine, other),
                )


def _price(engine: ServingEngine, other: ServingEngine) -> str:
    if other.tensor_parallel_size > engine.tensor_parallel_size:
        return "ranks sample together, and wait for each other"
    sizes = [(e.kv_cache_gb or 0.0, e.gpu_memory_utilization) for e in (engine, other)]
    if sizes[1] < sizes[0]:
        return "a smaller cache: completions may queue"
    if sizes[1] > sizes[0]:
        return "less is to spare"
    return "none: the limits of prompts and completions allow no more"


def _cache_sizes(engine: ServingEngine) -> Iterator[dict[str, float]]:
    """Yield the setting that decides on the cache: as it is, smaller and smaller, larger and larger."""
    if engine.kv_cache_gb is not None:
        yield from ({"kv_cache_gb": engine.kv_cache_gb * 2.0**power} for power in (0, -1, -2, 1, 2))
        return
    now = engine.gpu_memory_utilization
    smaller = [share for share in UTILIZATIONS if share < now]
    larger = [share for share in reversed(UTILIZATIONS) if share > now]
    yield from ({"gpu_memory_utilization": share} for share in (now, *smaller, *larger))


def _engine_here(setup: Setup) -> ServingEngine | None:
    """Return the engine whose settings decide on the trainer's GPUs, where there is one."""
    engine = setup.engine
    return engine if isinstance(engine, ServingEngine) and engine.is_here else None


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
    narrow_engine,
    sleeping_engine,
    another_cache,
    fewer_prompts_at_once,
    next_stages,
    offload_optimizer,
    shared_engine,
    adapters_only,
    freeze_vision,
    shorter_completions,
)
"""In the order of what they cost."""
