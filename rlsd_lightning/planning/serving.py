"""A serving engine's weights and cache, and how many completions run in it at a time. docs/planning.md derives every line.

The cache is cut into blocks that completions take as they grow, and a prompt's blocks are shared by its group.
-- PagedAttention, arXiv:2309.06180
"""

from __future__ import annotations

from rlsd_lightning.planning.cache import kv_bytes_per_token
from rlsd_lightning.planning.engines import ServingEngine
from rlsd_lightning.planning.hardware import GIB
from rlsd_lightning.planning.setup import BYTES, Precision, Setup, read_precision


def engine_precision(engine: ServingEngine) -> Precision:
    """Return the bytes of numbers: everything is kept and computed in the engine's dtype."""
    return read_precision("32-true", engine.dtype, "single")


def engine_weight_bytes(setup: Setup, engine: ServingEngine) -> float:
    """Return what the engine's weights take of one GPU."""
    whole = setup.architecture.num_params * BYTES[engine.dtype]
    return whole / engine.tensor_parallel_size


def engine_cache_bytes(setup: Setup, engine: ServingEngine) -> float:
    """Return what the cache takes of one GPU: vLLM takes its whole share, however little is asked of it."""
    if engine.kv_cache_gb is not None:
        return engine.kv_cache_gb * 1e9
    share = engine.gpu_memory_utilization * setup.gpu.memory_gib * GIB
    return max(0.0, share - engine_weight_bytes(setup, engine))


def cache_tokens(setup: Setup, engine: ServingEngine) -> int:
    """Return how many tokens fit into the cache of one engine, on all of its GPUs."""
    per_token = kv_bytes_per_token(setup.architecture.text, engine_precision(engine))
    whole = engine_cache_bytes(setup, engine) * engine.tensor_parallel_size
    return int(whole // per_token)


def missing_cache_bytes(setup: Setup) -> float:
    """Return by how much the cache on a trainer's GPU is too small for one completion of the greatest length."""
    engine = setup.engine
    if not isinstance(engine, ServingEngine) or not engine.is_here:
        return 0.0
    missing = max(0, engine.max_model_len - cache_tokens(setup, engine))
    per_token = kv_bytes_per_token(setup.architecture.text, engine_precision(engine))
    return missing * per_token / engine.tensor_parallel_size


def engine_problems(setup: Setup, engine: ServingEngine) -> float:
    """Return how many problems of a step one engine has."""
    work, ranks = setup.workload, setup.parallel.world_size
    if engine.is_here:
        return float(work.num_problems * engine.tensor_parallel_size)
    return work.num_problems * ranks / engine.num_servers


def engine_completions(setup: Setup, engine: ServingEngine) -> float:
    """Return how many completions of a step one engine has."""
    return engine_problems(setup, engine) * setup.workload.group_size


def tokens_per_completion(setup: Setup) -> float:
    """Return what a whole completion takes of the cache, with its share of the prompt: S_x / G + T."""
    work = setup.workload
    return work.prompt_tokens / work.group_size + work.completion_tokens


def num_running(setup: Setup, engine: ServingEngine) -> float:
    """Return how many completions run at a time: all of an engine's, max_num_seqs, or what the cache holds.

    Fewer than one never run: a cache that small is told by missing_cache_bytes.
    """
    that_fit = cache_tokens(setup, engine) // tokens_per_completion(setup)
    return max(1.0, min(engine_completions(setup, engine), engine.max_num_seqs, that_fit))
