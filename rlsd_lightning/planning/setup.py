"""A configuration, reduced to the numbers that decide what a run costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig

from rlsd_lightning.config import instantiate
from rlsd_lightning.interfaces import ever_asks_teacher, needs_of
from rlsd_lightning.models.adapters import Lora
from rlsd_lightning.planning.architecture import Architecture, read_architecture
from rlsd_lightning.planning.engines import Engine, read_engine
from rlsd_lightning.planning.hardware import GIB, Gpu, gpu_named
from rlsd_lightning.planning.workload import Workload
from rlsd_lightning.targets import locate
from rlsd_lightning.teacher import ExternalTeacher, FrozenTeacher, LiveTeacher

Kind = Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp2"]
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The configuration's `plan` section: what only the estimate needs to know."""

    gpu: str
    """One of planning.hardware.GPUS."""
    gpus_per_node: int
    """Where trainer.devices is "auto"."""
    prompt_tokens: int | None = None
    """Average of the student's prompt, image tokens included; None = data.max_prompt_tokens."""
    reference_tokens: int | None = None
    """What the teacher's prompt has more on average; None = up to data.max_teacher_prompt_tokens."""
    completion_tokens: int | None = None
    """Average; None = rollout.sampling.max_completion_tokens."""
    images_per_problem: float = 1.0
    """Average; a text model has none."""
    image_tokens: int = 1024
    """Average of one image."""
    scored_fraction: float = 1.0
    """Completions with an advantage other than 0: what the teacher of RLSD scores."""
    usable_memory_fraction: float = 0.92
    """The rest is for the CUDA context, NCCL and fragments."""
    matmul_efficiency: float = 0.4
    """Share of the GPU's published FLOP/s that forward and backward passes reach."""
    bandwidth_efficiency: float = 0.6
    """Share of the published memory bandwidth that decoding reaches."""
    launch_s_per_layer: float = 5.0e-4
    """Least time that a layer takes while decoding: launching its kernels from Python."""
    network_bytes_per_s: float = 40.0e9
    """Of one GPU between nodes; 400 Gb/s less a fifth."""

    def __post_init__(self) -> None:
        for name in ("scored_fraction", "usable_memory_fraction", "matmul_efficiency"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"plan.{name} is {value}. Needed: a share in [0, 1]. Correct it.")
        for name in ("prompt_tokens", "completion_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"plan.{name} is {value}. Needed: 1 or more tokens, or null for the longest. Correct it."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes of one number, by what it is for."""

    stored: int
    """Weights as they are kept."""
    weights: int
    """Weights as forward passes find them."""
    matmul: int
    """What matrix products read and write."""
    gradients: int
    moments: int
    """Both of AdamW's, of one weight."""
    master: int
    """A float32 copy beside weights of 2 bytes; 0 where weights are float32 themselves."""
    keeps_casts: bool
    """Autocast: bfloat16 casts of float32 weights, made once in a forward pass."""

    @property
    def adapters(self) -> int:
        """Of a weight of LoRA's: float32 but where everything is cast."""
        return self.weights if self.master else self.gradients

    @property
    def stream(self) -> int:
        """Of hidden states between layers: sums of embeddings (as weights) and what matmuls return."""
        return max(self.weights, self.matmul)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How many ranks there are, and who keeps what."""

    kind: Kind = "single"
    num_nodes: int = 1
    gpus_per_node: int = 1
    offload_optimizer: bool = False
    offload_parameters: bool = False
    bucket_elements: int = 200_000_000
    """Of DeepSpeed's communication buckets."""

    @property
    def world_size(self) -> int:
        """Ranks, one for each GPU."""
        return self.num_nodes * self.gpus_per_node

    @property
    def weight_shards(self) -> int:
        """Into how many parts weights are cut."""
        return self.world_size if self.kind in ("zero3", "fsdp2") else 1

    @property
    def gradient_shards(self) -> int:
        """Into how many parts gradients are cut."""
        return self.world_size if self.kind in ("zero2", "zero3", "fsdp2") else 1

    @property
    def optimizer_shards(self) -> int:
        """Into how many parts optimizer states are cut."""
        return self.world_size if self.kind not in ("single", "ddp") else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that the formulas ask."""

    architecture: Architecture
    num_trainable: int
    """Weights with gradients: LoRA's adapters, where there are such."""
    num_adapter_sets: int
    """0 = no LoRA; 1 = the policy's; 2 = a teacher that follows has its own."""
    teacher_architecture: Architecture
    """The policy's own, but of an external teacher."""
    num_teacher_params: int
    """Of the teacher's own copy; 0 where it has none."""
    external_teacher_dtype: str | None
    """None where the teacher is a copy of the policy, in its precision."""
    teacher_follows: bool
    """The teacher's weights change in the run: synced, ema."""
    asks_teacher: bool
    teacher_sync_steps: int
    """Optimizer steps between two refreshes of the copy; 0 = never."""
    divergence: bool
    """The loss compares whole distributions."""
    contrast: bool
    """The teacher reads a second reference."""
    has_anchor: bool
    anchor_copies: bool
    """Beside LoRA the anchor is the base without adapters."""
    engine: Engine
    gradient_checkpointing: bool
    freeze_vision: bool
    """No weight of the vision tower has a gradient."""
    trainer_precision: str
    dtype: str
    """model.dtype"""
    parallel: Parallel
    workload: Workload
    assumptions: Assumptions
    gpu: Gpu
    overlap: bool = False
    """Rollouts of the next step are made while this one trains."""
    device: Literal["cuda", "cpu"] = "cuda"

    @property
    def precision(self) -> Precision:
        """Bytes of numbers."""
        return read_precision(
            self.trainer_precision,
            self.dtype,
            self.parallel.kind,
            has_adapters=self.num_adapter_sets > 0,
        )

    @property
    def teacher_bytes(self) -> int:
        """Of a weight of the teacher's copy."""
        if self.external_teacher_dtype is None:
            return self.precision.stored
        return BYTES[self.external_teacher_dtype]

    @property
    def usable_bytes(self) -> float:
        """Of one GPU's memory."""
        return self.gpu.memory_gib * GIB * self.assumptions.usable_memory_fraction


def read_setup(cfg: DictConfig) -> Setup:
    """Reduce a validated configuration."""
    assumptions: Assumptions = instantiate(cfg.plan)
    gpu = gpu_named(assumptions.gpu)
    architecture = read_architecture(cfg.model.path, cfg.model.revision)
    credit, loss = instantiate(cfg.credit), instantiate(cfg.loss)
    needs, asks = needs_of(credit), ever_asks_teacher(credit)
    teacher = _teacher(cfg, architecture, asks)
    parallel = read_parallel(cfg.trainer, assumptions.gpus_per_node)
    adapters = cfg.model.get("lora")  # a model of the user's own may not have the key
    lora = Lora(**adapters) if adapters else None
    has_copy = teacher.kind is not LiveTeacher and (lora is None or teacher.kind is ExternalTeacher)
    adapter_sets = 0 if lora is None else 1 + int(teacher.kind.follows_policy)
    return Setup(
        architecture=architecture,
        num_trainable=num_trainable(architecture, cfg.model.freeze_vision, lora),
        num_adapter_sets=adapter_sets,
        teacher_architecture=teacher.architecture,
        num_teacher_params=teacher.architecture.num_params if has_copy else 0,
        external_teacher_dtype=teacher.dtype,
        teacher_follows=teacher.kind.follows_policy,
        asks_teacher=asks,
        teacher_sync_steps=teacher.sync_steps,
        divergence=needs.divergence is not None,
        contrast=needs.contrast,
        has_anchor=loss.needs_anchor and teacher.kind is not FrozenTeacher,
        anchor_copies=lora is None,
        engine=read_engine(cfg, gpu),
        gradient_checkpointing=cfg.model.gradient_checkpointing,
        freeze_vision=cfg.model.freeze_vision or lora is not None,
        trainer_precision=str(cfg.trainer.precision),
        dtype=cfg.model.dtype,
        parallel=parallel,
        workload=read_workload(cfg, assumptions, parallel.world_size, asks, needs.every_completion),
        assumptions=assumptions,
        gpu=gpu,
        overlap=cfg.rollout.overlap,
    )


def num_trainable(architecture: Architecture, freeze_vision: bool, lora: Lora | None = None) -> int:
    """Count the weights that have gradients."""
    if lora is not None:
        return architecture.text.adapter_weights(lora.rank, lora.target_modules)
    return architecture.num_params - (architecture.num_vision_params if freeze_vision else 0)


@dataclass(frozen=True, slots=True)
class _Teacher:
    kind: type
    architecture: Architecture
    dtype: str | None
    sync_steps: int


def _teacher(cfg: DictConfig, policy: Architecture, asked: bool) -> _Teacher:
    """Say what the teacher's copy is; a method that asks none keeps none."""
    kind = locate(cfg.teacher._target_) if asked else LiveTeacher
    if kind is ExternalTeacher:
        external = read_architecture(cfg.teacher.path, cfg.teacher.revision)
        return _Teacher(kind, external, cfg.teacher.dtype, 0)
    return _Teacher(kind, policy, None, int(cfg.teacher.get("every_n_steps", 0)))


def read_precision(
    precision: str, dtype: str, kind: Kind, *, has_adapters: bool = False
) -> Precision:
    """Return the bytes of numbers under a precision of Lightning's Trainer.

    In mixed precision DeepSpeed casts the model and keeps float32 master weights in its optimizer; FSDP2 keeps its parts as
    they are and gathers them in bfloat16; the others let autocast cast weights for matrix products.

    Args:
        precision: trainer.precision.
        dtype: model.dtype.
        kind: of the strategy.
        has_adapters: only LoRA's adapters are trained, which are float32 beside weights of any type.

    Raises:
        ValueError: a precision that is not known here.

    Example:
        >>> read_precision("bf16-mixed", "float32", "ddp").stream
        4
        >>> read_precision("bf16-mixed", "float32", "zero2").stream
        2
    """
    stored = BYTES[dtype]
    trained = BYTES["float32"] if has_adapters else stored
    if precision in ("32-true", "32"):
        return _plain(stored, trained)
    if precision in ("bf16-true", "16-true"):
        return _plain(2, trained=2)
    if precision not in ("bf16-mixed", "16-mixed"):
        raise ValueError(
            f"trainer.precision is {precision!r}, whose memory plan does not know. Needed: 32-true, bf16-mixed, "
            "16-mixed, bf16-true or 16-true. Choose one of them."
        )
    if kind.startswith("zero"):  # gradients of micro-batches are summed in float32
        return Precision(
            stored=2, weights=2, matmul=2, gradients=4, moments=8, master=4, keeps_casts=False
        )
    if kind == "fsdp2":
        return dataclasses.replace(_plain(stored, trained), weights=2, matmul=2)
    return dataclasses.replace(_plain(stored, trained), matmul=2, keeps_casts=stored > 2)


def _plain(size: int, trained: int) -> Precision:
    return Precision(
        stored=size,
        weights=size,
        matmul=size,
        gradients=trained,
        moments=2 * trained,
        master=0,
        keeps_casts=False,
    )


def read_parallel(trainer: DictConfig, gpus_per_node: int) -> Parallel:
    """Return how the trainer spreads a run.

    Args:
        trainer: the configuration's section.
        gpus_per_node: where trainer.devices is "auto".
    """
    devices = trainer.devices
    if not isinstance(devices, int):
        devices = gpus_per_node if isinstance(devices, str) else len(devices)
    strategy: Any = trainer.strategy
    offloads = {}
    if isinstance(strategy, DictConfig):
        offloads = {
            name: bool(strategy.get(name, False))
            for name in ("offload_optimizer", "offload_parameters")
        }
    return Parallel(
        kind=_kind(strategy, trainer.num_nodes * devices),
        num_nodes=trainer.num_nodes,
        gpus_per_node=devices,
        **offloads,
    )


def _kind(strategy: Any, world_size: int) -> Kind:
    if isinstance(strategy, DictConfig) and "stage" in strategy:
        return f"zero{strategy.stage}"  # type: ignore[return-value]
    name = strategy._target_ if isinstance(strategy, DictConfig) else str(strategy)
    if "fsdp" in name.lower() or "fullysharded" in name.lower():
        return "fsdp2"
    return "ddp" if world_size > 1 or "ddp" in name.lower() else "single"


def read_workload(
    cfg: DictConfig, assumptions: Assumptions, world_size: int, asks: bool, every_completion: bool
) -> Workload:
    """Return what one rank does in a step.

    Raises:
        ValueError: there is neither an expected nor a greatest length.
    """
    prompt = assumptions.prompt_tokens or cfg.data.max_prompt_tokens
    if prompt is None:
        raise ValueError(
            "plan.prompt_tokens and data.max_prompt_tokens are both null, so prompts could have any length. Set "
            "plan.prompt_tokens to their average, or data.max_prompt_tokens to their limit."
        )
    teacher = _teacher_prompt(cfg, assumptions, prompt) if asks else 0
    limit = cfg.rollout.sampling.max_completion_tokens
    return Workload(
        num_problems=cfg.rollout.problems_per_step // world_size,
        group_size=cfg.rollout.group_size,
        num_micro_batches=cfg.trainer.accumulate_grad_batches,
        prompt_tokens=prompt,
        teacher_prompt_tokens=teacher,
        completion_tokens=assumptions.completion_tokens or limit,
        longest_prompt_tokens=max(cfg.data.max_prompt_tokens or prompt, prompt),
        longest_teacher_prompt_tokens=max(cfg.data.max_teacher_prompt_tokens or teacher, teacher),
        longest_completion_tokens=limit,
        images_per_problem=assumptions.images_per_problem,
        image_tokens=assumptions.image_tokens,
        max_row_tokens=cfg.rollout.max_row_tokens,
        share_prefix=cfg.rollout.share_prefix,
        scored_fraction=1.0 if every_completion else assumptions.scored_fraction,
    )


def _teacher_prompt(cfg: DictConfig, assumptions: Assumptions, prompt: int) -> int:
    limit = cfg.data.max_teacher_prompt_tokens
    if assumptions.reference_tokens is not None:
        longer = prompt + assumptions.reference_tokens
        return longer if limit is None else min(longer, limit)
    if limit is None:
        raise ValueError(
            "plan.reference_tokens and data.max_teacher_prompt_tokens are both null, so the teacher's prompts could "
            "have any length. Set plan.reference_tokens to what a reference adds on average, or the limit."
        )
    return max(prompt, limit)
