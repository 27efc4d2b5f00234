"""Bytes by hand: who keeps what under each strategy, and what must not change."""

import dataclasses

import pytest
import torch

from rlsd_lightning.planning.architecture import TextShape
from rlsd_lightning.planning.engines import PolicyEngine
from rlsd_lightning.planning.memory import (
    cache_length,
    logit_bytes,
    plan_memory,
    text_layer_bytes,
    weight_state_bytes,
)
from rlsd_lightning.planning.setup import Parallel, read_precision
from tests.planning import tiny

N, W, BUCKET = 1000, 4, 10
STATES = {
    # kind: weights, gradients, optimizer, buffers of one rank, float32 weights under bf16-mixed
    "single": (4 * N, 4 * N, 8 * N, 0),
    "ddp": (4 * N, 4 * N, 8 * N, 4 * N),
    "zero1": (2 * N, (4 + 2) * N, 12 * N / W, 2 * 4 * BUCKET),
    "zero2": (2 * N, 4 * N / W, 12 * N / W, 2 * 2 * BUCKET),
    "zero3": (2 * N / W, 4 * N / W, 12 * N / W, 2 * BUCKET),
    "fsdp2": (4 * N / W, 4 * N / W, 8 * N / W, 0),
}


def states(kind, num_trainable=N, **offload):
    precision = read_precision("bf16-mixed", "float32", kind)
    parallel = Parallel(kind=kind, gpus_per_node=W, bucket_elements=BUCKET, **offload)
    return weight_state_bytes(N, num_trainable, precision, parallel)


@pytest.mark.parametrize("kind", STATES)
def test_weights_and_what_training_keeps_of_them(kind):
    assert tuple(states(kind).values()) == STATES[kind]


def test_only_trained_weights_have_gradients_and_moments():
    """One in ten, as adapters would be: 10 % of everything but the weights themselves."""
    few, all_of_them = states("zero2", num_trainable=N // 10), states("zero2")
    assert few["weights"] == all_of_them["weights"]
    assert few["gradients"] == all_of_them["gradients"] / 10
    assert few["optimizer"] == all_of_them["optimizer"] / 10


def test_offloading_takes_states_off_the_gpu():
    assert states("zero2", offload_optimizer=True)["optimizer"] == 0
    assert states("zero2", offload_optimizer=True)["gradients"] == 0
    assert states("zero3", offload_optimizer=True, offload_parameters=True)["weights"] == 0


@pytest.fixture
def setup():
    policy = tiny.text_policy(torch.float32, checkpointing=True)
    return tiny.setup_of(policy, "32-true", tiny.workload(4, 4, 100, 50, teacher=120))


def test_more_micro_batches_spare_activations_and_nothing_else(setup):
    work = dataclasses.replace(setup.workload, num_micro_batches=4)
    few, many = plan_memory(setup), plan_memory(dataclasses.replace(setup, workload=work))
    assert many.resident == few.resident
    assert many.phases["rollout"] == few.phases["rollout"]
    assert many.total("update") < few.total("update")


def test_a_copy_for_teacher_anchor_and_engine_weighs_what_the_policy_weighs(setup):
    weights = plan_memory(setup).resident["weights"]
    copies = dataclasses.replace(
        setup,
        num_teacher_params=setup.architecture.num_params,
        has_anchor=True,
        engine=PolicyEngine(copies=True, max_batch_prompts=64),
    )
    resident = plan_memory(copies).resident
    assert resident["teacher"] == resident["anchor"] == resident["engine weights"] == weights


def test_a_method_without_a_teacher_has_no_such_phase(setup):
    assert "teacher" in plan_memory(setup).phases
    assert "teacher" not in plan_memory(dataclasses.replace(setup, asks_teacher=False)).phases


def test_a_row_at_the_limits_counts_where_expected_ones_are_shorter(setup):
    work = dataclasses.replace(setup.workload, num_micro_batches=16, longest_prompt_tokens=2000)
    assert plan_memory(dataclasses.replace(setup, workload=work)).total("update") > plan_memory(
        setup
    ).total("update")


def test_a_long_reference_counts_where_the_teacher_reads_it(setup):
    work = dataclasses.replace(setup.workload, longest_teacher_prompt_tokens=3000)
    longer, before = plan_memory(dataclasses.replace(setup, workload=work)), plan_memory(setup)
    assert longer.total("teacher") > before.total("teacher")
    assert longer.phases["update"] == before.phases["update"]


def test_a_layer_under_autocast_by_hand():
    """H = A = 4, A' = 2, I = 8. Float32 hidden states, bfloat16 products, a cast for each of 5 readers of a norm."""
    text = TextShape(
        num_layers=1,
        hidden_size=4,
        num_heads=2,
        num_kv_heads=1,
        head_dim=2,
        intermediate_size=8,
        vocab_size=10,
    )
    autocast = read_precision("bf16-mixed", "float32", "single")
    norms, casts, qk_norms = 2 * 4 * (4 + 4), 5 * 4 * 2, (4 + 2) * (4 + 2)
    attention, mlp = 2 * (2 * 4 + 2 * 2) + 4 * 2, 4 * 8 * 2
    found = text_layer_bytes(text, autocast, masked=False)
    assert found == norms + casts + qk_norms + attention + mlp
    # with a mask keys and values are repeated: 2 x 4 in place of 2 x 2
    assert text_layer_bytes(text, autocast, masked=True) == found + 2 * 2 * 2


def test_the_cache_is_as_long_as_the_longest_completion_makes_it(setup):
    work = dataclasses.replace(setup.workload, longest_completion_tokens=100)
    longer = plan_memory(dataclasses.replace(setup, workload=work)).phases["rollout"]["KV cache"]
    # 100 + 4 x 50 tokens fit into 400, 100 + 4 x 100 into 800
    assert longer == 2 * plan_memory(setup).phases["rollout"]["KV cache"]
    assert (cache_length(100, 200), cache_length(100, 400)) == (400, 800)


def test_logits_grow_with_neither_the_vocabulary_nor_the_tokens_beyond_a_block(setup):
    text = setup.architecture.text
    precision = read_precision("bf16-true", "bfloat16", "single")
    large = dataclasses.replace(text, vocab_size=200_000)
    states = 100_000 * text.hidden_size
    found = logit_bytes(large, 100_000, precision, backward=True)
    # blocks of 8192 x 8192 in bfloat16, float32, bfloat16; states in bfloat16, float32, bfloat16
    assert found == 8192 * 8192 * (2 + 4 + 2) + states * (2 + 4 + 2)
    assert found == logit_bytes(
        dataclasses.replace(text, vocab_size=400_000), 100_000, precision, backward=True
    )


@pytest.mark.parametrize("sharded", ["zero3", "fsdp2"])
def test_rollouts_hold_whole_weights_where_ranks_keep_parts(setup, sharded):
    parallel = Parallel(kind=sharded, gpus_per_node=W)
    plan = plan_memory(
        dataclasses.replace(setup, parallel=parallel, trainer_precision="bf16-mixed")
    )
    assert plan.phases["rollout"]["gathered weights"] == 2 * setup.architecture.num_params
