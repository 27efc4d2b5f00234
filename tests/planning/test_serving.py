"""A serving engine by hand: bytes by part and sleep level, what runs at a time, seconds, and what a sync sends."""

import dataclasses

import pytest
import torch

from rlsd_lightning.planning.advice import advise, excess
from rlsd_lightning.planning.cache import kv_bytes_per_token
from rlsd_lightning.planning.engine_notes import engine_notes
from rlsd_lightning.planning.engines import ServingEngine
from rlsd_lightning.planning.flops import forward_flops, plan_step
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.planning.serving import (
    engine_precision,
    missing_cache_bytes,
    num_running,
)
from rlsd_lightning.planning.setup import Parallel
from rlsd_lightning.planning.workload import Rows
from tests.planning import tiny

HALF_OF_AN_H200 = 0.5 * 141 * 2**30
PER_TOKEN = 4 * 2 * 2 * 32 * 2
"""4 layers; keys and values of 2 heads of 32 in bfloat16: 1,024 bytes."""
NOT_RESIDENT = {"engine weights", "KV cache"}


@pytest.fixture(scope="module")
def policy():
    return tiny.text_policy(torch.float32, checkpointing=True)


def engine(**changes):
    common = {
        "num_servers": 0,
        "dtype": "bfloat16",
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.5,
        "kv_cache_gb": None,
        "max_num_seqs": 1024,
        "max_model_len": 150,
        "sleep_level": 1,
        "is_eager": False,
    }
    return ServingEngine(**(common | changes))


def setup(policy, kind="ddp", **changes):
    """4 problems x 4 completions of 100 + 50 tokens on each of 4 ranks: 100 / 4 + 50 = 75 tokens of the cache for each."""
    work = tiny.workload(4, 4, 100, 50, teacher=120)
    parallel = Parallel(kind=kind, gpus_per_node=4)
    return tiny.setup_of(
        policy, "32-true", work, parallel=parallel, engine=engine(**changes), device="cuda"
    )


def holding(num_tokens):
    """Return the size of a cache for so many tokens, in GB."""
    return num_tokens * PER_TOKEN / 1e9


@pytest.mark.parametrize("sleep_level", [1, 2])
def test_a_sleeping_engine_takes_its_share_while_it_samples_and_nothing_else(policy, sleep_level):
    plan = plan_memory(setup(policy, sleep_level=sleep_level))
    weights = 2 * setup(policy).architecture.num_params
    assert plan.phases["rollout"]["engine weights"] == weights
    assert plan.phases["rollout"]["KV cache"] == HALF_OF_AN_H200 - weights
    assert not NOT_RESIDENT & (
        plan.resident.keys() | plan.phases["teacher"].keys() | plan.phases["update"].keys()
    )


def test_an_engine_that_does_not_sleep_takes_it_in_every_phase(policy):
    plan = plan_memory(setup(policy, sleep_level=0))
    asleep = plan_memory(setup(policy))
    for phase, more in (("rollout", 0), ("teacher", HALF_OF_AN_H200), ("step", HALF_OF_AN_H200)):
        assert plan.total(phase) == pytest.approx(asleep.total(phase) + more)


def test_ranks_that_share_an_engine_share_its_weights(policy):
    rollout = plan_memory(setup(policy, tensor_parallel_size=2, kv_cache_gb=3)).phases["rollout"]
    assert rollout["engine weights"] == setup(policy).architecture.num_params
    assert rollout["KV cache"] == 3e9


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_token_of_the_cache_has_the_engines_type(policy, dtype):
    found = kv_bytes_per_token(
        setup(policy).architecture.text, engine_precision(engine(dtype=dtype))
    )
    assert found == (PER_TOKEN if dtype == "bfloat16" else 2 * PER_TOKEN)


def test_servers_leave_two_buckets_here_and_nothing_else(policy):
    plan = plan_memory(setup(policy, num_servers=2, sleep_level=0, bucket_gb=0.25))
    assert sum(plan.phases["rollout"].values()) == plan.phases["rollout"]["buffers"] == 0.5e9
    assert not NOT_RESIDENT & plan.resident.keys()


def test_weights_in_parts_are_gathered_a_bucket_at_a_time(policy):
    gathered = [
        plan_memory(setup(policy, kind)).phases["rollout"]["gathered weights"]
        for kind in ("zero2", "zero3")
    ]
    assert gathered == [0, 2**30]


@pytest.mark.parametrize(
    ("changes", "running", "told"),
    [
        ({"kv_cache_gb": holding(1200)}, 16, "All 16 completions of an engine run at once: 1,200 tokens of 1,200"),
        ({"kv_cache_gb": holding(750)}, 10, "10 run at once, the others queue: its cache holds 750 tokens of 1,200"),
        ({"max_num_seqs": 3}, 3, "3 run at once, the others queue: as many as max_num_seqs allows"),
        # two ranks: 32 completions, and a cache on each, which holds half of every token
        ({"kv_cache_gb": holding(750), "tensor_parallel_size": 2}, 20, "its cache holds 1,500 tokens of 2,400"),
        # 4 ranks x 16 completions on two servers
        ({"num_servers": 2, "kv_cache_gb": holding(1e6)}, 32, "All 32 completions of an engine"),
    ],
)  # fmt: skip
def test_completions_run_as_far_as_cache_and_limit_allow(policy, changes, running, told):
    found = setup(policy, **changes)
    assert num_running(found, found.engine) == running
    assert told in "\n".join(engine_notes(found))


def test_a_cache_without_room_for_the_longest_completion_is_missing_the_rest(policy):
    small = setup(policy, kv_cache_gb=holding(750), max_model_len=1000)
    assert missing_cache_bytes(small) == excess(small) == 250 * PER_TOKEN
    assert missing_cache_bytes(dataclasses.replace(small, engine=engine(num_servers=1))) == 0


def test_decoding_reads_weights_and_the_running_completions_caches_once(policy):
    """10 of 16 run, so 50 tokens of each take 80 steps; a cache has 100 + 50 / 2 tokens on average."""
    found = setup(policy, kv_cache_gb=holding(750))
    arch, gpu = found.architecture, found.gpu
    traffic = 2 * arch.num_active_params + 10 * 125 * PER_TOKEN
    products = 10 * (2 * arch.num_active_params + 4 * 4 * 128 * 125)
    prompts = Rows(num_rows=4, prompt_tokens=100, completions_per_row=0, completion_tokens=0)
    prefill = forward_flops(arch.text, prompts)
    rollout = plan_step(found).phases["rollout"]
    assert rollout.memory_bytes == 80 * traffic
    assert rollout.flops == prefill + 80 * products
    slowest = max(traffic / (0.6 * gpu.bytes_per_s), products / (0.4 * gpu.flops_per_s))
    assert rollout.seconds == pytest.approx(prefill / (0.4 * gpu.flops_per_s) + 80 * slowest)


def test_two_ranks_on_one_engine_halve_what_each_reads_of_the_weights(policy):
    """Twice the completions, half of everything: only the weights' traffic of a GPU changes."""
    one, two = (
        plan_step(setup(policy, tensor_parallel_size=size)).phases["rollout"] for size in (1, 2)
    )
    weights = 2 * setup(policy).architecture.num_active_params
    assert two.flops == pytest.approx(one.flops)
    assert two.memory_bytes == pytest.approx(one.memory_bytes - 50 * weights / 2)


def test_python_launches_kernels_without_cuda_graphs_and_the_longest_completion_is_waited_for(
    policy,
):
    found = setup(policy, is_eager=True)
    work = dataclasses.replace(found.workload, longest_completion_tokens=80)
    seconds = plan_step(dataclasses.replace(found, workload=work)).phases["rollout"].seconds
    assert seconds == pytest.approx(80 * 4 * 5e-4, rel=0.01)


def test_servers_get_whole_weights_as_they_are_kept(policy):
    found = setup(policy, num_servers=3, sleep_level=0)
    sent = plan_step(found).phases["to servers"].network_bytes
    assert sent == 3 * 4 * found.architecture.num_params
    assert "to servers" not in plan_step(setup(policy)).phases


def test_overlapping_rollouts_cost_only_what_is_longer_than_training(policy):
    step = plan_step(dataclasses.replace(setup(policy, num_servers=1, is_eager=True), overlap=True))
    rollout = step.phases["rollout"].seconds
    assert step.seconds == rollout > 0.5 * sum(phase.seconds for phase in step.phases.values())


def on_a_gpu_of(num_bytes, found, **changes):
    """Return a setup of which so many bytes can be used; its micro-batches are as small as can be."""
    gpu = dataclasses.replace(found.gpu, memory_gib=num_bytes / 2**30 / 0.92)
    work = dataclasses.replace(found.workload, num_micro_batches=16)
    return dataclasses.replace(found, gpu=gpu, workload=work, **changes)


def test_an_engine_that_does_not_fit_beside_training_is_to_sleep(policy):
    training = plan_memory(on_a_gpu_of(1, setup(policy))).peak
    found = on_a_gpu_of(1.5 * training, setup(policy, sleep_level=0, gpu_memory_utilization=0.4))
    assert [one.override for one in advise(found)] == ["engine.sleep_level=1"]
    assert excess(found) > 0


def test_a_cache_is_made_smaller_and_a_limit_that_nothing_reaches_lowered(policy):
    """150 tokens are the longest there are; a cache for a million is 0.95 GiB, and 0.75 GiB can be used."""
    found = on_a_gpu_of(
        0.75 * 2**30, setup(policy, gpu_memory_utilization=0.95, max_model_len=10**6)
    )
    (one,) = advise(found)
    assert one.override == "engine.max_model_len=150 engine.gpu_memory_utilization=0.85"
    assert (one.fits, one.price) == (True, "a smaller cache: completions may queue")
    # with a size of its own the cache is halved until it fits
    (one,) = advise(dataclasses.replace(found, engine=engine(kv_cache_gb=1.2)))
    assert one.override == "engine.kv_cache_gb=0.6"


def test_ranks_share_an_engine_whose_weights_leave_no_room(policy):
    """4 bytes of each weight are the policy's; the engine's take 4 more, or 2 on each of two ranks; there are 3."""
    offloading = Parallel(kind="zero2", gpus_per_node=4, offload_optimizer=True, bucket_elements=0)
    found = setup(policy, dtype="float32", gpu_memory_utilization=0.3)
    usable = 7 * found.architecture.num_params
    found = on_a_gpu_of(usable, found, parallel=offloading, asks_teacher=False)
    last = advise(found)[-1]
    assert last.fits
    assert last.override.startswith("engine.tensor_parallel_size=2")


def test_a_policy_with_bfloat16_products_needs_no_float32_engine(policy):
    found = dataclasses.replace(setup(policy, dtype="float32"), trainer_precision="bf16-mixed")
    assert "engine.dtype is float32" in "\n".join(engine_notes(found))
    tight = dataclasses.replace(found, engine=engine(dtype="float32", max_model_len=40_000_000))
    assert advise(tight)[0].override == "engine.dtype=bfloat16"
