"""The answer of `plan`, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rlsd_lightning.planning.advice import Advice
from rlsd_lightning.planning.engine_notes import engine_notes
from rlsd_lightning.planning.flops import StepCost
from rlsd_lightning.planning.hardware import GIB
from rlsd_lightning.planning.memory import MemoryPlan
from rlsd_lightning.planning.serving import missing_cache_bytes
from rlsd_lightning.planning.setup import Setup

PARTS = (
    "weights",
    "gradients",
    "optimizer",
    "teacher",
    "anchor",
    "engine weights",
    "buffers",
    "gathered weights",
    "casts",
    "KV cache",
    "activations",
    "logits",
)
"""In the order of the table."""
ALWAYS_SHOWN = (*PARTS[:4], "engine weights", *PARTS[9:])
"""The others only where they are not 0."""


def page(
    model: str, setup: Setup, memory: MemoryPlan, step: StepCost, advice: Sequence[Advice]
) -> str:
    """Write everything down."""
    blocks = [
        _head(model, setup),
        _memory_table(memory),
        _verdict(setup, memory, advice),
        _step_table(step),
        _notes(setup, step),
    ]
    return "\n\n".join(blocks)


def _head(model: str, setup: Setup) -> str:
    arch, parallel, work = setup.architecture, setup.parallel, setup.workload
    trained = "all trained"
    if setup.num_trainable != arch.num_params:
        trained = f"{_count(setup.num_trainable)} trained"
    rows = work.student()
    lines = [
        f"{model}: {_count(arch.num_params)} weights, {trained}, {setup.trainer_precision}",
        f"{parallel.num_nodes} x {parallel.gpus_per_node} {setup.gpu.name}, {parallel.kind}",
        f"A rank's step: {work.num_problems} problems x {work.group_size} completions in {rows.num_rows} rows of "
        f"{rows.row_tokens:,} tokens, {work.num_micro_batches} micro-batches",
        f"Lengths: prompt {work.prompt_tokens:,}"
        + (f", teacher's prompt {work.teacher_prompt_tokens:,}" if setup.asks_teacher else "")
        + f", completion {work.completion_tokens:,} (longest {work.longest_completion_tokens:,})",
    ]
    assumed = setup.assumptions
    unset = [
        f"plan.{name}"
        for name in ("prompt_tokens", "reference_tokens", "completion_tokens")
        if getattr(assumed, name) is None and (name != "reference_tokens" or setup.asks_teacher)
    ]
    if unset:
        lines.append(
            f"Upper bounds: {', '.join(unset)} not given, so the limits count. Set them to expected averages."
        )
    return "\n".join(lines)


def _memory_table(memory: MemoryPlan) -> str:
    phases = list(memory.phases)
    lines = [_columns("Memory of a GPU, GiB", phases)]
    for part in PARTS:
        always = memory.resident.get(part, 0.0)
        values = [always + memory.phases[phase].get(part, 0.0) for phase in phases]
        if part in ALWAYS_SHOWN or any(values):
            lines.append(_columns(part, (f"{value / GIB:.1f}" for value in values)))
    lines.append(_columns("total", (f"{memory.total(phase) / GIB:.1f}" for phase in phases)))
    return "\n".join(lines)


def _verdict(setup: Setup, memory: MemoryPlan, advice: Sequence[Advice]) -> str:
    usable, fraction = setup.usable_bytes / GIB, setup.assumptions.usable_memory_fraction
    peak, missing = memory.peak / GIB, missing_cache_bytes(setup) / GIB
    gpu = f"{setup.gpu.name} has {setup.gpu.memory_gib:.0f} GiB; {fraction:.0%} of it, {usable:.1f}, are counted on"
    if peak <= usable and not missing:
        return f"Fits: {gpu}. The {memory.peak_phase} needs the most, {usable - peak:.1f} are to spare."
    lines = []
    if peak > usable:
        lines.append(f"Does not fit: {gpu}, and the {memory.peak_phase} needs {peak:.1f}.")
    if missing:
        lines.append(
            f"vLLM would not start: the cache lacks {missing:.1f} GiB for a single completion of engine.max_model_len "
            "tokens with its prompt (null: the model's own limit)."
        )
    lines.append("What to change, what costs least first, each with those before it:")
    width = max([45, *(len(a.override) for a in advice)])
    lines += [f"  {a.override:<{width}} {a.peak / GIB:6.1f}  {a.price}" for a in advice]
    if not advice or not advice[-1].fits:
        lines.append("  None of it is enough: choose a smaller model, or GPUs with more memory.")
    return "\n".join(lines)


def _step_table(step: StepCost) -> str:
    lines = [_columns("One step, per GPU", ("TFLOP", "GB read", "GB sent", "seconds"))]
    for name, cost in step.phases.items():
        values = (cost.flops / 1e12, cost.memory_bytes / 1e9, cost.network_bytes / 1e9)
        cells = [f"{value:,.0f}" if value else "" for value in values]
        lines.append(_columns(name, (*cells, f"{cost.seconds:,.1f}")))
    lines.append(_columns("verify", ("", "", "", "not estimated")))
    lines.append(_columns("total", (f"{step.flops / 1e12:,.0f}", "", "", f"{step.seconds:,.1f}")))
    return "\n".join(lines)


def _notes(setup: Setup, step: StepCost) -> str:
    assumed = setup.assumptions
    lines = [
        f"A step has {step.completion_tokens:,} completion tokens, {step.completion_tokens / step.seconds:,.0f} a second; "
        f"its update computes {step.computed_tokens:,} tokens.",
        f"Seconds assume {assumed.matmul_efficiency:.0%} of the published FLOP/s and {assumed.bandwidth_efficiency:.0%} of "
        "the memory bandwidth, and that nothing sent hides behind computing.",
    ]
    if setup.overlap:
        lines.append(
            "Rollouts are made beside training: a step takes the longer of the rollouts and everything else."
        )
    lines += engine_notes(setup)
    if setup.teacher_sync_steps:
        copied = setup.num_teacher_params * setup.teacher_bytes
        if setup.num_adapter_sets:
            copied = setup.num_trainable * setup.precision.adapters
        moved = copied / 1e9
        lines.append(
            f"The teacher takes {moved:.1f} GB every {setup.teacher_sync_steps} steps, within each GPU; steps without "
            "a teacher (lambda 0) save its seconds."
        )
    if setup.architecture.text.num_experts:
        lines.append("Experts are trained without a loss that balances the router's load.")
    return "\n".join(lines)


def _count(weights: int) -> str:
    return f"{weights / 1e9:.2f} B" if weights >= 1e8 else f"{weights / 1e6:.2f} M"


def _columns(name: str, cells: Iterable[str]) -> str:
    return f"{name:<22}" + "".join(f"{cell:>14}" for cell in cells)
