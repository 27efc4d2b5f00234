"""How vLLM has to be started for rollouts, in the trainer's process or as a server: what was learnt about it stands here once."""

from __future__ import annotations

from typing import Any

import torch

_CPU_KV_CACHE_GB = 0.5
"""vLLM would take nearly all of the machine's memory."""
WORKER = "rlsd_lightning.engines.vllm_worker.RolloutWorker"
"""What the trainer may ask of vLLM's workers."""


def logprobs_mode(temperature: float) -> str:
    """Return in which form vLLM is to give log-probs.

    At 1 the raw ones are over the whole vocabulary, whatever is banned or cut off. At other temperatures only the processed
    ones are at the temperature; they are over the tokens that may be drawn.

    Args:
        temperature: of the training's rollouts.
    """
    return "raw_logprobs" if temperature == 1 else "processed_logprobs"


def engine_arguments(
    *,
    dtype: str,
    temperature: float,
    tensor_parallel_size: int,
    max_model_len: int | None,
    max_num_seqs: int | None,
    gpu_memory_utilization: float,
    kv_cache_gb: float | None,
    enforce_eager: bool | None,
    seed: int,
) -> dict[str, Any]:
    """Return vLLM's engine arguments for settings by their names in `conf`; None is vLLM's own choice.

    Args:
        dtype: of the weights.
        temperature: of the training's rollouts.
        tensor_parallel_size: GPUs that share the model.
        max_model_len: tokens of a prompt and its completion.
        max_num_seqs: completions decoded at a time.
        gpu_memory_utilization: share of a GPU.
        kv_cache_gb: memory of the cache; None on CPU is half a GB.
        enforce_eager: no CUDA graphs; None is "on CPU only".
        seed: of vLLM.
    """
    on_gpu = torch.cuda.is_available()
    if kv_cache_gb is None and not on_gpu:
        kv_cache_gb = _CPU_KV_CACHE_GB
    arguments = {
        "dtype": dtype,
        "tensor_parallel_size": tensor_parallel_size,
        "gpu_memory_utilization": gpu_memory_utilization,
        "enforce_eager": not on_gpu if enforce_eager is None else enforce_eager,
        "logprobs_mode": logprobs_mode(temperature),
        "seed": seed,
        "worker_extension_cls": WORKER,
    }
    if max_model_len is not None:
        arguments["max_model_len"] = max_model_len
    if max_num_seqs is not None:
        arguments["max_num_seqs"] = max_num_seqs
    if kv_cache_gb is not None:
        arguments["kv_cache_memory_bytes"] = int(kv_cache_gb * 1e9)
    if not on_gpu:
        # vLLM draws a token behind every piece of a prompt and winds its generator back, which CPU ones cannot do.
        arguments["enable_chunked_prefill"] = False
    return arguments


def model_arguments(
    path: str, revision: str | None, *, sees_images: bool, max_images: int
) -> dict[str, Any]:
    """Return vLLM's arguments about the model.

    A text model starts without weights (load_format dummy). One that sees images reads its checkpoint: vLLM 0.32 keeps the
    images' mean and standard deviation in buffers that a dummy start fills with noise, and that no sync brings.

    Args:
        path: model.path.
        revision: model.revision.
        sees_images: whether it has a vision tower.
        max_images: per prompt.
    """
    arguments: dict[str, Any] = {"model": path, "load_format": "auto" if sees_images else "dummy"}
    if revision is not None:
        arguments |= {"revision": revision, "tokenizer_revision": revision}
    if sees_images:
        arguments["limit_mm_per_prompt"] = {"image": max_images, "video": 0}
    return arguments
