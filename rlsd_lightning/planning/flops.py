"""FLOPs, traffic and seconds of a step on one GPU, by phase. docs/planning.md derives every line.

A product of [n, a] and [a, b] is 2 n a b FLOPs. What a kernel computes counts, not what the mathematics needs: attention
with a mask computes the whole square [S, S], gradient checkpointing a second forward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlsd_lightning.planning.architecture import Architecture, TextShape, VisionShape
from rlsd_lightning.planning.cache import kv_bytes_per_token
from rlsd_lightning.planning.engines import PolicyEngine, ServingEngine
from rlsd_lightning.planning.serving import (
    engine_completions,
    engine_precision,
    engine_problems,
    num_running,
)
from rlsd_lightning.planning.setup import Parallel, Precision, Setup
from rlsd_lightning.planning.workload import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCost:
    """What a phase of a step costs one GPU."""

    flops: float = 0.0
    memory_bytes: float = 0.0
    """To and from the GPU's memory, where that decides: decoding."""
    network_bytes: float = 0.0
    """That a GPU sends."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """A step: the phases follow each other, and ranks work side by side. Verifying is not estimated."""

    phases: dict[str, PhaseCost]
    overlap: bool = False
    """The rollouts alone are made beside everything else."""
    completion_tokens: int
    """Of all ranks."""
    computed_tokens: int
    """That the update's forward pass sees, prompts included, of all ranks."""

    @property
    def seconds(self) -> float:
        """Of the whole step; with overlap the longer of the rollouts and everything else."""
        rollout = self.phases["rollout"].seconds
        others = sum(phase.seconds for phase in self.phases.values()) - rollout
        return max(rollout, others) if self.overlap else rollout + others

    @property
    def flops(self) -> float:
        """Of one GPU."""
        return sum(phase.flops for phase in self.phases.values())


def plan_step(setup: Setup) -> StepCost:
    """Estimate a step in which the teacher is asked."""
    work, world_size = setup.workload, setup.parallel.world_size
    phases = {"rollout": _rollout(setup)}
    if setup.asks_teacher:
        phases["teacher"] = _compute(setup, _teacher_flops(setup))
    if setup.has_anchor:
        anchor = forward_flops(setup.architecture.text, work.student()) + _vision_forward(setup)
        phases["anchor"] = _compute(setup, anchor)
    phases["update"] = _compute(setup, _update_flops(setup))
    phases["sync"] = _sync(setup)
    if isinstance(setup.engine, ServingEngine) and not setup.engine.is_here:
        phases["to servers"] = _to_servers(setup, setup.engine)
    return StepCost(
        phases=phases,
        overlap=setup.overlap,
        completion_tokens=world_size * work.num_completions * work.completion_tokens,
        computed_tokens=world_size * work.student().num_tokens,
    )


def _compute(setup: Setup, flops: float) -> PhaseCost:
    return PhaseCost(
        flops=flops,
        seconds=flops / (setup.gpu.flops_per_s * setup.assumptions.matmul_efficiency),
    )


# Forward and backward


def forward_flops(text: TextShape, rows: Rows, *, masked: bool | None = None) -> float:
    """Count a forward pass over rows, logits of the predicted tokens included.

    Args:
        text: the model.
        rows: what it reads.
        masked: whether attention computes whole squares; None: where rows have siblings.

    Example:
        One row of 10 tokens, the last 4 predicted; 1 layer of 100 weights, V H = 30: 2 x 100 x 10 in layers,
        2 x 2 x 10 x 10 in causal attention over queries of width 2, 2 x 30 x 4 for logits.

        >>> text = TextShape(num_layers=1, hidden_size=3, num_heads=2, num_kv_heads=1, head_dim=1,
        ...                  intermediate_size=8, vocab_size=10)
        >>> text.layer_matmul_weights
        90
        >>> row = Rows(num_rows=1, prompt_tokens=6, completions_per_row=1, completion_tokens=4)
        >>> forward_flops(text, row) == 2 * 90 * 10 + 2 * 2 * 10**2 + 2 * 30 * 4
        True
    """
    return layers_flops(text, rows, masked=masked) + head_flops(text, rows.num_predicted)


def layers_flops(text: TextShape, rows: Rows, *, masked: bool | None = None) -> float:
    """Count the layers of a forward pass; see forward_flops."""
    masked = rows.has_siblings if masked is None else masked
    square = (4 if masked else 2) * text.query_size * rows.num_rows * rows.row_tokens**2
    return text.num_layers * (2.0 * text.layer_matmul_weights * rows.num_tokens + square)


def head_flops(text: TextShape, num_predicted: int) -> float:
    """Count the logits of some tokens."""
    return 2.0 * text.vocab_size * text.hidden_size * num_predicted


def vision_flops(vision: VisionShape, num_images: float, patches_per_image: int) -> float:
    """Count the vision tower over images: its attention stays within an image."""
    return num_images * (
        _embedding_flops(vision, patches_per_image)
        + _block_flops(vision, patches_per_image)
        + _merger_flops(vision, patches_per_image)
    )


def _embedding_flops(vision: VisionShape, patches: int) -> float:
    return 2.0 * vision.patch_values * vision.hidden_size * patches


def _block_flops(vision: VisionShape, patches: int) -> float:
    square = 4.0 * vision.hidden_size * patches**2
    return vision.num_blocks * (2.0 * vision.block_matmul_weights * patches + square)


def _merger_flops(vision: VisionShape, patches: int) -> float:
    weights = vision.num_mergers * vision.merger_matmul_weights
    return 2.0 * weights * patches / vision.patches_per_token


def _vision_forward(setup: Setup, architecture: Architecture | None = None) -> float:
    """Count the images of a step, each once; by the policy's tower unless another is given."""
    vision = (architecture or setup.architecture).vision
    if vision is None:
        return 0.0
    return vision_flops(vision, _num_images(setup), _patches_per_image(setup, vision))


def _num_images(setup: Setup) -> float:
    return setup.workload.num_problems * setup.workload.images_per_problem


def _patches_per_image(setup: Setup, vision: VisionShape) -> int:
    return setup.workload.image_tokens * vision.patches_per_token


def _teacher_flops(setup: Setup) -> float:
    """Count what the teacher reads; a copy encodes the images anew, but where the towers are frozen and the same."""
    arch, work = setup.teacher_architecture, setup.workload
    views = 2 if setup.contrast else 1
    text = views * work.scored_fraction * forward_flops(arch.text, work.teacher())
    external = setup.external_teacher_dtype is not None
    encodes = external or (setup.num_teacher_params > 0 and not setup.freeze_vision)
    return text + (_vision_forward(setup, arch) if encodes else 0.0)


def _update_flops(setup: Setup) -> float:
    """Count forward, backward (twice a forward) and what backward computes anew: logits, and layers if checkpointed."""
    text, rows = setup.architecture.text, setup.workload.student()
    if setup.num_adapter_sets:
        return _adapter_update_flops(setup)
    layers = 3 * layers_flops(text, rows)
    if (
        setup.gradient_checkpointing
    ):  # all of a layer but its last product, whose result nobody needs
        last = text.hidden_size * text.intermediate_size * text.num_experts_per_token
        layers += layers_flops(text, rows) - 2.0 * text.num_layers * last * rows.num_tokens
    return layers + 4 * head_flops(text, rows.num_predicted) + _vision_update(setup)


def _adapter_update_flops(setup: Setup) -> float:
    """Count an update of LoRA's adapters: frozen weights and the head have no gradient of their own to compute."""
    text, rows = setup.architecture.text, setup.workload.student()
    recomputed = 1 if setup.gradient_checkpointing else 0
    products = 2.0 * text.num_layers * text.layer_matmul_weights * rows.num_tokens
    squares = layers_flops(text, rows) - products
    adapters = 2.0 * setup.num_trainable * rows.num_tokens
    return (
        (2 + recomputed) * products
        + (3 + recomputed) * (squares + adapters)
        + 3 * head_flops(text, rows.num_predicted)
        + _vision_forward(setup)
    )


def _vision_update(setup: Setup) -> float:
    """Count the vision tower's forward and backward passes; pixels need no gradient, a frozen tower none at all."""
    vision = setup.architecture.vision
    if vision is None or setup.freeze_vision:
        return _vision_forward(setup)
    patches = _patches_per_image(setup, vision)
    blocks = 3 * _block_flops(vision, patches)
    if setup.gradient_checkpointing:
        last = vision.hidden_size * vision.intermediate_size
        blocks += _block_flops(vision, patches) - 2.0 * vision.num_blocks * last * patches
    around = 2 * _embedding_flops(vision, patches) + 3 * _merger_flops(vision, patches)
    return _num_images(setup) * (blocks + around)


# Decoding


def _rollout(setup: Setup) -> PhaseCost:
    if isinstance(setup.engine, PolicyEngine):
        return _policy_rollout(setup, setup.engine)
    return _serving_rollout(setup, setup.engine)


def _policy_rollout(setup: Setup, engine: PolicyEngine) -> PhaseCost:
    """Count prefill by FLOPs, and each decoding step by what takes longest: FLOPs, memory traffic or launching."""
    arch, work, assumed = setup.architecture, setup.workload, setup.assumptions
    text, gpu = arch.text, setup.gpu
    batch = min(engine.max_batch_prompts, work.num_problems)
    num_batches = math.ceil(work.num_problems / batch)
    prompts = Rows(
        num_rows=work.num_problems,
        prompt_tokens=work.prompt_tokens,
        completions_per_row=0,
        completion_tokens=0,
    )
    prefill = _compute(setup, forward_flops(text, prompts, masked=True) + _vision_forward(setup))
    weights = _decoded_weight_bytes(arch, setup.precision, batch * work.group_size)
    half = work.prompt_tokens + work.group_size * work.completion_tokens / 2
    cache = batch * half * cache_traffic_per_token(text, setup.precision)
    flops = (
        batch
        * work.group_size
        * (2.0 * arch.num_active_params + 4.0 * text.num_layers * text.query_size * half)
    )
    bandwidth = gpu.bytes_per_s * assumed.bandwidth_efficiency
    launching = text.num_layers * assumed.launch_s_per_layer
    rate = gpu.flops_per_s * assumed.matmul_efficiency
    full = max((weights + cache) / bandwidth, flops / rate, launching)
    tail = max(weights / bandwidth, launching)
    num_tail = work.longest_completion_tokens - work.completion_tokens
    decoding = num_batches * (work.completion_tokens * full + num_tail * tail)
    return PhaseCost(
        flops=prefill.flops + num_batches * work.completion_tokens * flops,
        memory_bytes=num_batches
        * (work.completion_tokens * (weights + cache) + num_tail * weights),
        seconds=prefill.seconds + decoding,
    )


def _serving_rollout(setup: Setup, engine: ServingEngine) -> PhaseCost:
    """Count each prompt once, then steps in which every running completion gets a token; another takes its place.

    A step reads the weights once, and the keys and values of every running completion once.
    -- arXiv:2211.05102, section 2; PagedAttention, arXiv:2309.06180
    """
    arch, work, share = setup.architecture, setup.workload, engine.tensor_parallel_size
    completions, running = engine_completions(setup, engine), num_running(setup, engine)
    precision = engine_precision(engine)
    prefill = _compute(setup, engine_problems(setup, engine) * _prompt_flops(setup) / share)
    half = work.prompt_tokens + work.completion_tokens / 2
    weights = _decoded_weight_bytes(arch, precision, math.ceil(running)) / share
    cache = running * half * kv_bytes_per_token(arch.text, precision) / share
    attention = 4.0 * arch.text.num_layers * arch.text.query_size * half
    flops = running * (2.0 * arch.num_active_params + attention) / share
    num_full = work.completion_tokens * completions / running
    num_tail = work.longest_completion_tokens - work.completion_tokens
    full = _decoding_seconds(setup, engine, weights + cache, flops)
    return PhaseCost(
        flops=prefill.flops + num_full * flops,
        memory_bytes=num_full * (weights + cache) + num_tail * weights,
        seconds=prefill.seconds
        + num_full * full
        + num_tail * _decoding_seconds(setup, engine, weights),
    )


def _prompt_flops(setup: Setup) -> float:
    """Count one prompt with its images."""
    work = setup.workload
    alone = Rows(
        num_rows=1,
        prompt_tokens=work.prompt_tokens,
        completions_per_row=0,
        completion_tokens=0,
    )
    images = _vision_forward(setup) / work.num_problems
    return forward_flops(setup.architecture.text, alone) + images


def _decoding_seconds(
    setup: Setup, engine: ServingEngine, memory_bytes: float, flops: float = 0.0
) -> float:
    """Return what a step takes, the longest of its parts; CUDA graphs launch kernels without Python."""
    gpu, assumed = setup.gpu, setup.assumptions
    layers = setup.architecture.text.num_layers
    return max(
        memory_bytes / (gpu.bytes_per_s * assumed.bandwidth_efficiency),
        flops / (gpu.flops_per_s * assumed.matmul_efficiency),
        layers * assumed.launch_s_per_layer if engine.is_eager else 0.0,
    )


def _decoded_weight_bytes(arch: Architecture, precision: Precision, num_tokens: int) -> float:
    """Return the bytes of weights that one decoding step reads; of experts those that some token uses."""
    text, active = arch.text, arch.num_active_params
    if text.num_experts:
        mlp = 3 * text.hidden_size * text.intermediate_size
        hit = min(text.num_experts, num_tokens * text.num_experts_per_token)
        active += text.num_layers * mlp * (hit - text.num_experts_per_token)
    return float(active * precision.matmul)


def cache_traffic_per_token(text: TextShape, precision: Precision) -> float:
    """Return the bytes that one cached token moves in one decoding step, in all layers.

    Keys and values are read, repeated for every query head and written, cast where their type differs, and read by
    attention. A serving engine's attention reads keys and values once: this engine's is several times that.
    """
    stream, matmul = precision.stream, precision.matmul
    read = text.kv_size * (stream + matmul)
    repeated = text.query_size * (stream + matmul)
    cast = text.query_size * (stream + matmul) if stream != matmul else 0
    return float(text.num_layers * (read + repeated + cast + 2 * text.query_size * matmul))


# Between GPUs


def _sync(setup: Setup) -> PhaseCost:
    """Count gradients and weights between ranks, as if nothing of it hid behind computing."""
    sent = sync_bytes(
        setup.architecture.num_params,
        setup.num_trainable,
        setup.precision,
        setup.parallel,
        num_micro_batches=setup.workload.num_micro_batches,
        asks_teacher=setup.asks_teacher,
    )
    across = setup.parallel.num_nodes > 1
    rate = setup.assumptions.network_bytes_per_s if across else setup.gpu.link_bytes_per_s
    return PhaseCost(network_bytes=sent, seconds=sent / rate)


def _to_servers(setup: Setup, engine: ServingEngine) -> PhaseCost:
    """Count what rank zero sends: all weights, as they are kept, to every server through one network card."""
    sent = sent_to_server(setup) * engine.num_servers
    return PhaseCost(network_bytes=sent, seconds=sent / setup.assumptions.network_bytes_per_s)


def sent_to_server(setup: Setup) -> float:
    """Return the bytes that a server gets in a sync."""
    return float(setup.architecture.num_params * setup.precision.stored)


def sync_bytes(
    num_total: int,
    num_trainable: int,
    precision: Precision,
    parallel: Parallel,
    *,
    num_micro_batches: int,
    asks_teacher: bool,
) -> float:
    """Return the bytes that one GPU sends in a step: rings send (W - 1) / W of a tensor to scatter or to gather it.

    DDP reduces gradients once a step, scattering and gathering them; ZeRO-1 scatters gradients and gathers weights; ZeRO-2
    scatters them after every micro-batch; ZeRO-3 and FSDP2 also gather weights for every pass forward and back, of the
    teacher too, and once for the rollouts. -- ZeRO, arXiv:1910.02054, section 7

    Args:
        num_total: weights of the model.
        num_trainable: those with gradients.
        precision: bytes of each.
        parallel: the ranks.
        num_micro_batches: K.
        asks_teacher: whether a teacher of the same size reads.

    Example:
        >>> from rlsd_lightning.planning.setup import read_precision
        >>> plain = read_precision("32-true", "float32", "ddp")
        >>> pair = Parallel(kind="ddp", gpus_per_node=2)
        >>> sync_bytes(1000, 1000, plain, pair, num_micro_batches=8, asks_teacher=False)
        4000.0
    """
    share = (parallel.world_size - 1) / parallel.world_size
    weights = num_total * precision.weights * share
    gradients = num_trainable * precision.weights * share
    trained = num_trainable * precision.weights * share
    if parallel.kind in ("single", "ddp"):
        return 2 * gradients
    if parallel.kind == "zero1":
        return gradients + trained
    if parallel.kind == "zero2":
        return num_micro_batches * gradients + trained
    passes = 3 if asks_teacher else 2
    return num_micro_batches * (gradients + passes * weights) + weights
