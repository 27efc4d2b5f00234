"""What makes the rollouts: as much of a rollout engine's settings as decides what a run costs."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.engines.vllm_engine import VLLMEngine
from rlsd_lightning.engines.vllm_server_engine import VLLMServerEngine
from rlsd_lightning.planning.architecture import read_config
from rlsd_lightning.planning.hardware import Gpu
from rlsd_lightning.targets import locate


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEngine:
    """engine=transformers: decodes with the policy's own model."""

    copies: bool
    """It keeps weights of its own, in the trainer's precision."""
    max_batch_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingEngine:
    """engine=vllm and engine=vllm_server: weights of its own, and a cache of a fixed size that completions share."""

    num_servers: int
    """0 = on the trainer's GPUs, one for tensor_parallel_size ranks; else processes with GPUs of their own."""
    dtype: str
    """Of its weights, keys and values."""
    tensor_parallel_size: int
    gpu_memory_utilization: float
    kv_cache_gb: float | None
    """None = what gpu_memory_utilization leaves."""
    max_num_seqs: int
    max_model_len: int
    """vLLM does not start with a cache that cannot hold so many tokens."""
    sleep_level: int
    """0 = nothing is given back while the policy is trained; 1 and 2 = weights and cache are."""
    is_eager: bool
    """No CUDA graphs: Python launches every kernel."""
    bucket_gb: float = 0.0
    """Rank zero holds two of them while it sends weights to servers."""

    @property
    def is_here(self) -> bool:
        """Whether it lies on the trainer's GPUs."""
        return self.num_servers == 0


Engine = PolicyEngine | ServingEngine


def read_engine(cfg: DictConfig, gpu: Gpu) -> Engine:
    """Reduce the sections `engine` and, for servers, `serving`: they are taken to be started with the same overrides.

    Args:
        cfg: the whole configuration.
        gpu: of the trainer, and of the servers.

    Raises:
        ValueError: an engine of which nothing is known here.
    """
    kind = locate(cfg.engine._target_)
    if kind is TransformersEngine:
        return PolicyEngine(
            copies=not cfg.engine.shares_policy_weights,
            max_batch_prompts=cfg.engine.max_batch_prompts,
        )
    if kind is VLLMEngine:
        sleep_level = 1 if cfg.engine.sleep_level is None else cfg.engine.sleep_level
        return _serving(cfg.engine, gpu, num_servers=0, sleep_level=sleep_level)
    if kind is VLLMServerEngine:
        return _serving(
            cfg.serving,
            gpu,
            num_servers=len(cfg.engine.servers),
            sleep_level=0,
            bucket_gb=cfg.engine.bucket_gb,
        )
    raise ValueError(
        f"engine._target_ is {cfg.engine._target_}, of which plan does not know what it keeps. Needed: an engine of "
        "conf/engine/. Plan with engine=transformers or engine=vllm, whichever is nearer to yours."
    )


def _serving(
    node: DictConfig, gpu: Gpu, *, num_servers: int, sleep_level: int, bucket_gb: float = 0.0
) -> ServingEngine:
    return ServingEngine(
        num_servers=num_servers,
        dtype=node.dtype,
        tensor_parallel_size=node.tensor_parallel_size,
        gpu_memory_utilization=node.gpu_memory_utilization,
        kv_cache_gb=node.kv_cache_gb,
        max_num_seqs=node.max_num_seqs or default_num_seqs(gpu),
        max_model_len=node.max_model_len or _longest(node),
        sleep_level=sleep_level,
        is_eager=bool(node.enforce_eager),
        bucket_gb=bucket_gb,
    )


def _longest(node: DictConfig) -> int:
    """Return the model's own limit of a prompt and its completion, in tokens."""
    return read_config(node.path, node.revision).get_text_config().max_position_embeddings


def default_num_seqs(gpu: Gpu) -> int:
    """Return how many completions vLLM decodes at a time where nothing is set. -- vLLM 0.32, EngineArgs.get_batch_defaults.

    Example:
        >>> from rlsd_lightning.planning.hardware import GPUS
        >>> {name: default_num_seqs(gpu) for name, gpu in GPUS.items()}
        {'h200': 1024, 'h100': 1024, 'a100_80gb': 256, 'a100_40gb': 256, 'l40s': 256}
    """
    return 1024 if gpu.memory_gib >= 70 and "A100" not in gpu.name else 256
