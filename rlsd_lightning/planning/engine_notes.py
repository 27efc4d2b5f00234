"""What the page says about the engine, in sentences."""

from __future__ import annotations

from rlsd_lightning.planning.cache import kv_bytes_per_token
from rlsd_lightning.planning.engines import PolicyEngine, ServingEngine
from rlsd_lightning.planning.flops import sent_to_server
from rlsd_lightning.planning.serving import (
    cache_tokens,
    engine_completions,
    engine_precision,
    engine_weight_bytes,
    num_running,
    tokens_per_completion,
)
from rlsd_lightning.planning.setup import BYTES, Setup


def engine_notes(setup: Setup) -> list[str]:
    """Return what a sync moves, where weights are meanwhile, and how many completions run at a time."""
    engine = setup.engine
    if isinstance(engine, PolicyEngine):
        return [_policy_sync(setup, engine)]
    notes = _here(setup, engine) if engine.is_here else _elsewhere(setup, engine)
    return [
        *notes,
        _queue(setup, engine),
        *_slow_type(setup, engine),
        "Seconds of the rollout are a serving engine's by formula (docs/planning.md), not measured on a GPU.",
    ]


def _slow_type(setup: Setup, engine: ServingEngine) -> list[str]:
    """Tell a float32 engine beside a policy whose matrix products are bfloat16."""
    if engine.dtype != "float32":
        return []
    key = "engine.dtype" if engine.is_here else "serving.dtype"
    advice = f" Set {key}=bfloat16." if setup.precision.matmul == 2 else ""
    return [
        f"{key} is float32: twice the bytes of bfloat16, and slower than the seconds here, which take its rates.{advice}"
    ]


def _policy_sync(setup: Setup, engine: PolicyEngine) -> str:
    if engine.copies:
        return _taken(setup, setup.precision.weights)
    return "The engine reads the policy's own weights: 0 bytes to take over."


def _taken(setup: Setup, num_bytes: int) -> str:
    taken = setup.architecture.num_params * num_bytes / 1e9
    return f"The engine takes {taken:.1f} GB of weights after every step."


def _here(setup: Setup, engine: ServingEngine) -> list[str]:
    notes = [_taken(setup, BYTES[engine.dtype])]
    kept = engine_weight_bytes(setup, engine) * setup.parallel.gpus_per_node / 1e9
    if engine.sleep_level == 1:
        notes.append(
            f"While the policy is trained its weights wait in the host's memory, {kept:.1f} GB on a node "
            "(engine.sleep_level=2: nowhere)."
        )
    return notes


def _elsewhere(setup: Setup, engine: ServingEngine) -> list[str]:
    text, gpus = setup.architecture.text, engine.tensor_parallel_size
    tokens = engine_completions(setup, engine) * tokens_per_completion(setup)
    cache = tokens * kv_bytes_per_token(text, engine_precision(engine)) / gpus / 1e9
    weights, sent = engine_weight_bytes(setup, engine) / 1e9, sent_to_server(setup) / 1e9
    return [
        f"Servers: {engine.num_servers}, GPUs of each: {gpus}, taken to be of the same kind and set by serving.*. On each of "
        f"these GPUs: {weights:.1f} GB of weights, {cache:,.1f} GB of keys and values for all of a step's completions at once.",
        f"A server takes {sent:.1f} GB of weights after every step.",
    ]


def _queue(setup: Setup, engine: ServingEngine) -> str:
    """Say whether all completions of a step run at the same time, and if not why."""
    asked = round(engine_completions(setup, engine))
    running, held = round(num_running(setup, engine)), cache_tokens(setup, engine)
    needed = round(asked * tokens_per_completion(setup))
    if running == asked:
        return f"All {asked:,} completions of an engine run at once: {needed:,} tokens of {held:,} in its cache."
    if running == engine.max_num_seqs:
        reason = "as many as max_num_seqs allows"
    else:
        reason = f"its cache holds {held:,} tokens of {needed:,}"
    return (
        f"Of an engine's {asked:,} completions {running:,} run at once, the others queue: {reason}."
    )
