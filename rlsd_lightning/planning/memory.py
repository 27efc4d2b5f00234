"""Bytes on one GPU, by part and by phase of a step. docs/planning.md derives every line.

    resident   weights, gradients, optimizer, teacher, anchor, engine, buffers: there all the time
    rollout    + autocast's casts, keys and values, one layer's work, logits of one token for each completion;
               a serving engine's weights and cache (resident where it does not sleep), and what hands weights to it
    teacher    + casts, what the policy's forward pass has saved for backward, one layer's work of the teacher
    update     + casts, what is saved for backward, one layer's work backward, logits in blocks
    step       + what the optimizer needs for a moment

b_w: bytes of a weight; b_m: of what a matmul reads and writes; b_s: of the stream of hidden states between layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlsd_lightning.logit_blocks import BLOCK_ELEMENTS, BLOCK_ROWS, MIN_BLOCK_COLUMNS
from rlsd_lightning.planning.architecture import TextShape, VisionShape
from rlsd_lightning.planning.cache import kv_bytes_per_token
from rlsd_lightning.planning.engines import PolicyEngine, ServingEngine
from rlsd_lightning.planning.serving import engine_cache_bytes, engine_weight_bytes
from rlsd_lightning.planning.setup import Parallel, Precision, Setup
from rlsd_lightning.planning.workload import MicroBatch, Rows, Workload
from rlsd_lightning.weights import BUCKET_BYTES

Parts = dict[str, float]
"""Bytes by part."""

FLOAT32 = 4
MASK_COPIES = 3
"""Bool masks [R, S, S] that exist at once while packing.visibility makes one."""
LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's default of stage3_max_live_parameters."""
DRAW_BYTES = 30
"""Bytes for each logit while engines/sampling.draw runs: six float32 and a float64 tensor of [completions, V]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """The answer."""

    resident: Parts
    phases: dict[str, Parts] = field(default_factory=dict)
    """What each phase adds; a phase that does not happen is absent."""

    @property
    def resident_bytes(self) -> float:
        """What is there all the time."""
        return sum(self.resident.values())

    def total(self, phase: str) -> float:
        """Return the bytes of a phase."""
        return self.resident_bytes + sum(self.phases[phase].values())

    @property
    def peak_phase(self) -> str:
        """The phase that needs the most."""
        return max(self.phases, key=self.total)

    @property
    def peak(self) -> float:
        """Bytes that a GPU needs."""
        return self.total(self.peak_phase)

    def part(self, name: str) -> float:
        """Return a part's bytes where it is largest."""
        return self.resident.get(name, 0.0) + max(
            phase.get(name, 0.0) for phase in self.phases.values()
        )


def plan_memory(setup: Setup) -> MemoryPlan:
    """Add everything up."""
    batches = setup.workload.micro_batches()
    phases = {
        "rollout": _rollout(setup),
        "teacher": max((_teacher(setup, batch) for batch in batches), key=_sum),
        "update": max((_update(setup, batch) for batch in batches), key=_sum),
        "step": _step(setup),
    }
    if not setup.asks_teacher:
        del phases["teacher"]
    return MemoryPlan(resident=_resident(setup), phases=phases)


def _sum(parts: Parts) -> float:
    return sum(parts.values())


# What is there all the time


def _resident(setup: Setup) -> Parts:
    total, precision, parallel = setup.architecture.num_params, setup.precision, setup.parallel
    parts = weight_state_bytes(total, setup.num_trainable, precision, parallel)
    sets = setup.num_adapter_sets * setup.num_trainable * precision.adapters
    parts["weights"] += sets / parallel.weight_shards
    copy = total * precision.stored / parallel.weight_shards
    return parts | {
        "teacher": setup.num_teacher_params * setup.teacher_bytes / parallel.weight_shards,
        "anchor": copy if setup.has_anchor and setup.anchor_copies else 0.0,
        **_engine_resident(setup, copy),
    }


def _engine_resident(setup: Setup, copy: float) -> Parts:
    """Return what the engine keeps while the policy is trained, too."""
    engine = setup.engine
    if isinstance(engine, PolicyEngine):
        return {"engine weights": copy if engine.copies else 0.0}
    sleeps = engine.sleep_level > 0
    return {} if sleeps or not engine.is_here else _serving_parts(setup, engine)


def _serving_parts(setup: Setup, engine: ServingEngine) -> Parts:
    return {
        "engine weights": engine_weight_bytes(setup, engine),
        "KV cache": engine_cache_bytes(setup, engine),
    }


def weight_state_bytes(
    num_total: int, num_trainable: int, precision: Precision, parallel: Parallel
) -> Parts:
    """Return the bytes of weights, gradients, optimizer states and communication buffers on one GPU.

    AdamW keeps two moments; ZeRO cuts the optimizer (stage 1), the gradients too (2), the weights too (3) into one
    part for each rank. -- ZeRO, arXiv:1910.02054, section 3

    Args:
        num_total: weights of the model.
        num_trainable: those that have gradients.
        precision: bytes of each.
        parallel: who keeps what.

    Example:
        One process, float32: 4 + 4 + 8 bytes for each of 1,000 weights.

        >>> from rlsd_lightning.planning.setup import read_precision
        >>> plain = read_precision("32-true", "float32", "single")
        >>> sum(weight_state_bytes(1000, 1000, plain, Parallel()).values())
        16000.0
    """
    states = num_trainable * (precision.moments + precision.master)
    kept = 0.0 if parallel.offload_optimizer else states / parallel.optimizer_shards
    weights = 0.0 if parallel.offload_parameters else num_total * precision.stored
    gradients = num_trainable * _gradient_bytes(precision, parallel)
    partitions_move = parallel.offload_optimizer and parallel.gradient_shards > 1
    return {
        "weights": weights / parallel.weight_shards,
        "gradients": 0.0 if partitions_move else gradients / parallel.gradient_shards,
        "optimizer": kept,
        "buffers": _buffer_bytes(gradients, precision, parallel),
    }


def _gradient_bytes(precision: Precision, parallel: Parallel) -> int:
    """Return the bytes of one gradient; ZeRO-1 sums them in float32 beside those that backward passes leave."""
    beside = precision.weights if parallel.kind == "zero1" and precision.master else 0
    return precision.gradients + beside


def _buffer_bytes(gradients: float, precision: Precision, parallel: Parallel) -> float:
    """DDP keeps every gradient once more, in buckets; DeepSpeed one bucket or two of a fixed size.

    ZeRO-1 reduces the float32 sums, the others what backward passes leave; ZeRO-3 does not fill one bucket while it
    sends another.
    """
    if parallel.kind == "ddp":
        return gradients
    bucket = float(parallel.bucket_elements)
    buckets = {
        "zero1": 2 * bucket * precision.gradients,
        "zero2": 2 * bucket * precision.weights,
        "zero3": bucket * precision.weights,
    }
    return buckets.get(parallel.kind, 0.0)


# What a phase adds


def _rollout(setup: Setup) -> Parts:
    if isinstance(setup.engine, PolicyEngine):
        return _policy_rollout(setup, setup.engine)
    return _serving_rollout(setup, setup.engine)


def _serving_rollout(setup: Setup, engine: ServingEngine) -> Parts:
    """The engine has what it takes, and the policy gathers and sends one bucket of weights after the other."""
    awake = engine.is_here and engine.sleep_level > 0
    largest = largest_matrix(setup.architecture.text), setup.architecture.head_weights
    bucket = max(BUCKET_BYTES, max(largest) * setup.precision.stored)
    return (_serving_parts(setup, engine) if awake else {}) | {
        "gathered weights": float(bucket) if setup.parallel.weight_shards > 1 else 0.0,
        "buffers": 2 * engine.bucket_gb * 1e9,
    }


def _policy_rollout(setup: Setup, engine: PolicyEngine) -> Parts:
    """Prompts are computed side by side, then a token of every completion at a time; the larger of the two."""
    text, precision, work = setup.architecture.text, setup.precision, setup.workload
    prompts = min(engine.max_batch_prompts, work.num_problems)
    added = work.group_size * work.longest_completion_tokens
    per_token = prompts * kv_bytes_per_token(text, precision)
    prefill = {
        "KV cache": work.prompt_tokens * per_token,
        "activations": forward_bytes(text, _prompts_alone(prompts, work), precision, masked=True),
    }
    last = prompts * (work.prompt_tokens + added)
    decode = {
        "KV cache": cache_length(work.prompt_tokens, added) * per_token,
        **_larger(
            activations=last * decode_bytes_per_token(text, precision),
            logits=prompts * work.group_size * text.vocab_size * (DRAW_BYTES + precision.matmul),
        ),
    }
    larger = max(prefill, decode, key=_sum)
    casts = setup.num_trainable
    if not setup.num_adapter_sets:
        casts = setup.architecture.num_linear_weights + setup.architecture.head_weights
    gathered = setup.architecture.num_params * precision.weights
    return larger | {
        "gathered weights": gathered if setup.parallel.weight_shards > 1 else 0.0,
        "casts": 2.0 * casts if precision.keeps_casts else 0.0,
    }


def _prompts_alone(num_prompts: int, work: Workload) -> Rows:
    return Rows(
        num_rows=num_prompts,
        prompt_tokens=work.prompt_tokens,
        completions_per_row=0,
        completion_tokens=0,
    )


def _larger(**parts: float) -> Parts:
    """Keep the largest of parts that are never there at once."""
    name = max(parts, key=parts.__getitem__)
    return {name: parts[name]}


def cache_length(prompt_tokens: int, added_tokens: int) -> int:
    """Return the length of BranchCache's buffers at the end: they grow by doubling.

    Example:
        >>> cache_length(1000, 3500)
        8000
    """
    length = prompt_tokens
    while length < prompt_tokens + added_tokens:
        length *= 2
    return length


def decode_bytes_per_token(text: TextShape, precision: Precision) -> float:
    """Return what attention makes of each cached token while it decodes: keys and values of every query head, cast."""
    casts = precision.matmul if precision.stream != precision.matmul else 0
    return text.query_size * (precision.stream + precision.matmul + casts)


def _teacher(setup: Setup, batch: MicroBatch) -> Parts:
    """The teacher reads while the policy's graph waits for its backward pass."""
    shape, rows = setup.teacher_architecture.text, batch.teacher
    twice = 2 if setup.divergence else 1
    return {
        "gathered weights": _gathered(setup),
        "casts": _casts(setup),
        "activations": saved_bytes(setup, batch) + forward_bytes(shape, rows, setup.precision),
        "logits": twice
        * logit_bytes(
            shape, rows.num_predicted, setup.precision, backward=False, device=setup.device
        ),
    }


def _update(setup: Setup, batch: MicroBatch) -> Parts:
    rows, text, precision = batch.student, setup.architecture.text, setup.precision
    twice = 2 if setup.divergence else 1
    logits = twice * logit_bytes(
        text, rows.num_predicted, precision, backward=True, device=setup.device
    )
    if not setup.num_adapter_sets:  # the head itself is trained
        logits += setup.architecture.head_weights * precision.weights
    saved, always = saved_bytes(setup, batch), {"gathered weights": _gathered(setup)}
    if not setup.gradient_checkpointing:
        # The logits' work is over when the layers' begins, which frees what it needs.
        return always | {"casts": _casts(setup), "activations": saved, "logits": logits}
    frozen = setup.num_adapter_sets > 0
    layer = rows.num_tokens * (
        text_layer_bytes(text, precision, masked=rows.has_siblings, frozen=frozen)
        + backward_bytes(text, precision, frozen=frozen)
        - precision.stream * text.hidden_size  # a layer's input is saved already
    ) + mask_bytes(rows, precision.matmul)
    layer += largest_matrix(text) * precision.weights  # its gradient, before it is added up
    casts = 2.0 * text.layer_matmul_weights if precision.keeps_casts else 0.0
    if logits > layer + casts:
        return always | {"activations": saved, "logits": logits}
    return always | {"casts": casts, "activations": saved + layer}


def _gathered(setup: Setup) -> float:
    """Return what ranks that keep parts of weights hold whole meanwhile.

    DeepSpeed's ZeRO-3: at most stage3_max_live_parameters. FSDP2: two layers, and the embeddings with the head.
    """
    arch, parallel = setup.architecture, setup.parallel
    if parallel.kind == "zero3":
        return float(min(LIVE_PARAMETERS, arch.num_params) * setup.precision.weights)
    if parallel.kind == "fsdp2":
        layer = arch.num_params / arch.text.num_layers
        return setup.precision.weights * (2 * layer + 2 * arch.head_weights)
    return 0.0


def _casts(setup: Setup) -> float:
    """Autocast keeps a bfloat16 cast of every trained weight of a linear layer until the forward pass is over.

    Of a frozen weight it makes one for each use, which backward passes need where layers are not computed anew.
    """
    if not setup.precision.keeps_casts:
        return 0.0
    if setup.num_adapter_sets and setup.gradient_checkpointing:
        return 2.0 * setup.num_trainable
    frozen = setup.architecture.num_vision_linear_weights if setup.freeze_vision else 0
    return 2.0 * (setup.architecture.num_linear_weights - frozen)


def _step(setup: Setup) -> Parts:
    """AdamW over many tensors at once makes one float32 number for each; ZeRO also turns gradients into float32."""
    per_weight = FLOAT32 + (FLOAT32 if setup.precision.master else 0)
    if setup.parallel.offload_optimizer:
        return {"optimizer": 0.0}
    return {"optimizer": setup.num_trainable * per_weight / setup.parallel.optimizer_shards}


# What a forward pass saves, and what a layer needs meanwhile


def saved_bytes(setup: Setup, batch: MicroBatch) -> float:
    """Return what the policy's forward pass over a micro-batch keeps for its backward pass."""
    arch, precision = setup.architecture, setup.precision
    rows, text, tokens = batch.student, arch.text, batch.student.num_tokens
    frozen = setup.num_adapter_sets > 0
    stream = precision.stream * text.hidden_size
    if setup.gradient_checkpointing:
        layers = text.num_layers * tokens * stream
    else:
        per_token = text_layer_bytes(text, precision, masked=rows.has_siblings, frozen=frozen)
        layers = text.num_layers * (tokens * per_token + mask_bytes(rows, precision.matmul))
    tail = (
        tokens * norm_bytes(text.hidden_size, precision, frozen=frozen)
        + rows.num_predicted * stream
    )
    mask = float(rows.num_rows * rows.row_tokens**2) if rows.has_siblings else 0.0
    return layers + tail + mask + _saved_vision(setup, batch.num_problems)


def text_layer_bytes(
    text: TextShape, precision: Precision, *, masked: bool, frozen: bool = False
) -> float:
    """Return what one layer saves for one token, its input included.

    Two norms [H], each read by the linear layers behind it; queries and keys through norms of their own; attention's
    inputs and output; four tensors [I] in the gated MLP. With a mask, keys and values are repeated for every query
    head first.

    Example:
        float32, H = 4, two heads of 2 for queries and one for keys, I = 8: norms and what they return 6 x 4, norms of
        queries and keys 2 x 6, attention 2 x 4 + 2 x 2 and a sum for each of 2 heads, MLP 4 x 8: 82 numbers.

        >>> from rlsd_lightning.planning.architecture import TextShape
        >>> tiny = TextShape(num_layers=1, hidden_size=4, num_heads=2, num_kv_heads=1, head_dim=2,
        ...                  intermediate_size=8, vocab_size=10)
        >>> from rlsd_lightning.planning.setup import read_precision
        >>> plain = read_precision("32-true", "float32", "single")
        >>> text_layer_bytes(tiny, plain, masked=False)
        328.0
    """
    matmul, size = precision.matmul, text.hidden_size
    norms = 2 * norm_bytes(size, precision, frozen=frozen)
    # Autocast casts what a norm returns once for each linear layer that reads it; otherwise they share it.
    read = 5 * matmul * size if precision.stream != matmul else 2 * matmul * size
    heads = text.query_size + text.kv_size
    qk_norms = heads * (FLOAT32 + (0 if frozen else matmul)) if text.has_qk_norms else 0
    keys = text.query_size if masked else text.kv_size
    attention = matmul * (2 * text.query_size + 2 * keys) + FLOAT32 * text.num_heads
    return norms + read + qk_norms + attention + _mlp_bytes(text, precision)


def norm_bytes(size: int, precision: Precision, *, frozen: bool = False) -> float:
    """Return what an RMS norm saves for one token: its input in float32, and the normed one for its weight's gradient."""
    return float(size * (FLOAT32 + (0 if frozen else precision.stream)))


def _mlp_bytes(text: TextShape, precision: Precision) -> float:
    """Gate, activated gate, up, product [I]; experts also keep their input and output [H] and the router's scores."""
    if not text.num_experts:
        return float(4 * precision.matmul * text.intermediate_size)
    width = precision.weights  # experts' matmuls are not autocast
    routed = 4 * text.intermediate_size + 2 * text.hidden_size
    return float(text.num_experts_per_token * width * routed + 2 * FLOAT32 * text.num_experts)


def backward_bytes(text: TextShape, precision: Precision, *, frozen: bool = False) -> float:
    """Return what going back through a layer needs for each token while all that the layer saved is still there.

    Adapters of another type than what they read have their input cast, and so its gradient.
    """
    wide = text.intermediate_size * text.num_experts_per_token
    cast = precision.adapters if frozen and precision.adapters != precision.matmul else 0
    return (precision.matmul + cast) * wide + precision.stream * text.hidden_size


def largest_matrix(text: TextShape) -> int:
    """Count the weights of a layer's largest parameter: the MLP's, or gate and up of all experts."""
    matrix = text.hidden_size * text.intermediate_size
    return 2 * text.num_experts * matrix if text.num_experts else matrix


def mask_bytes(rows: Rows, width: int) -> float:
    """Return the bytes of attention's own copy of a mask [R, S, S]; 0 where rows are plainly causal."""
    return float(rows.num_rows * rows.row_tokens**2 * width) if rows.has_siblings else 0.0


def forward_bytes(
    text: TextShape, rows: Rows, precision: Precision, *, masked: bool | None = None
) -> float:
    """Return what a layer needs at once in a forward pass that saves nothing.

    Args:
        text: the model.
        rows: what it reads.
        precision: bytes of its numbers.
        masked: whether there is a mask; None: where rows have siblings.
    """
    masked = rows.has_siblings if masked is None else masked
    stream, matmul = precision.stream, precision.matmul
    keys = text.query_size if masked else text.kv_size
    attention = stream * text.query_size + (stream + matmul) * text.kv_size
    attention += (stream + matmul) * text.query_size if masked else 0  # repeated for every head
    attention += matmul * (text.query_size + keys) if stream != matmul else 0  # cast
    attention += matmul * text.query_size  # what it returns
    mlp = 3 * matmul * text.intermediate_size * text.num_experts_per_token
    squares = rows.num_rows * rows.row_tokens**2 if masked else 0
    layer = max(
        rows.num_tokens * attention + squares * (1 + matmul), rows.num_tokens * mlp + squares
    )
    held = rows.num_tokens * 2 * stream * text.hidden_size
    return max(held + layer, squares * MASK_COPIES)


def _saved_vision(setup: Setup, num_problems: float) -> float:
    """Return what the vision tower saves; a frozen one saves nothing."""
    vision = setup.architecture.vision
    if vision is None or setup.freeze_vision:
        return 0.0
    patches = setup.workload.num_patches(num_problems, vision.patches_per_token)
    precision = setup.precision
    if setup.gradient_checkpointing:
        blocks = vision.num_blocks * precision.stream * vision.hidden_size
    else:
        blocks = vision.num_blocks * vision_block_bytes(vision, precision)
    mergers = vision.num_mergers * (
        3 * vision.hidden_size * precision.matmul + vision.hidden_size * precision.stream
    )
    features = 2 * vision.num_mergers * vision.out_size * precision.matmul
    return patches * (
        blocks + mergers + vision.patch_values * FLOAT32 + features / vision.patches_per_token
    )


def vision_block_bytes(vision: VisionShape, precision: Precision) -> float:
    """Return what one block saves for one patch: two norms, queries, keys and values, attention's output, the MLP."""
    size, matmul = vision.hidden_size, precision.matmul
    norms = 2 * size * (precision.stream + matmul)
    attention = 7 * size * matmul
    return float(norms + attention + 2 * vision.intermediate_size * matmul)


def logit_bytes(
    text: TextShape,
    num_predicted: int,
    precision: Precision,
    *,
    backward: bool,
    device: str = "cuda",
) -> float:
    """Return what scoring completion tokens needs: blocks of logits, never [N, V]. See logit_blocks.py.

    Args:
        text: the model.
        num_predicted: N.
        precision: bytes of its numbers.
        backward: gradients, too.
        device: "cpu" or "cuda", which have blocks of different sizes.
    """
    rows = max(1, min(num_predicted, BLOCK_ROWS))
    columns = min(text.vocab_size, max(BLOCK_ELEMENTS[device] // rows, MIN_BLOCK_COLUMNS))
    narrow = precision.matmul if precision.matmul < FLOAT32 else 0
    extra = narrow if backward else FLOAT32
    block = rows * columns * (narrow + FLOAT32 + extra)
    states = num_predicted * text.hidden_size
    if backward:
        return block + states * (precision.matmul + FLOAT32 + precision.stream)
    return block + states * narrow
