"""The memory plan against what tiny models of the same architecture really hold, operation by operation.

Models are wide against their vocabulary and rows are long, so that activations outweigh weights, as they do in a run.
"""

import dataclasses

import pytest

from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.models.adapters import LANGUAGE_LAYERS, Lora, add_adapters
from rlsd_lightning.planning.memory import plan_memory
from rlsd_lightning.types import Sampling
from tests.helpers.live_memory import LiveMemory
from tests.planning.tiny import (
    PRECISIONS,
    expert_policy,
    micro_batch,
    numerics,
    prompts_of,
    setup_of,
    text_policy,
    vision_policy,
    workload,
)

TOLERANCE = 0.1
"""Of the measured bytes; the aim is 0.2."""


def measured_update(policy, loss):
    """Peak bytes of a second micro-batch: weights and the first one's gradients are there."""
    loss().backward()
    there = [t for weight in policy.parameters() for t in (weight, weight.grad)]
    with LiveMemory(there) as memory:
        resident = memory.current
        loss().backward()
    return resident, memory.peak


def assert_close(planned, measured):
    assert abs(planned / measured - 1) < TOLERANCE, f"{planned / measured:.3f} of what was measured"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("name", "group_size", "prompt"),
    [("float32", 1, 200), ("float32", 4, 120), ("autocast", 4, 120), ("bfloat16", 4, 120)],
)
def test_the_update_of_a_text_model(name, checkpointing, group_size, prompt):
    precision, dtype, context = numerics(name)
    policy = text_policy(dtype, checkpointing=checkpointing)
    work = workload(3, group_size, prompt, 60)
    resident, peak = measured_update(policy, micro_batch(policy, work, context))
    plan = plan_memory(setup_of(policy, precision, work))
    assert plan.resident["weights"] + plan.resident["gradients"] == resident
    assert peak > 2 * resident
    assert_close(sum(plan.phases["update"].values()), peak - resident)


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_update_of_a_model_that_reads_images(name, checkpointing):
    precision, dtype, context = numerics(name)
    policy = vision_policy(dtype, checkpointing=checkpointing)
    work = workload(3, 3, 100, 40, with_images=True)
    loss = micro_batch(policy, work, context, with_images=True)
    resident, peak = measured_update(policy, loss)
    plan = plan_memory(setup_of(policy, precision, work))
    assert_close(sum(plan.phases["update"].values()), peak - resident)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_teacher_that_reads_more_than_the_policy(checkpointing):
    """Its forward pass stands on the policy's graph; long enough, it is the step's peak."""
    precision, dtype, context = numerics("float32")
    policy = text_policy(dtype, checkpointing=checkpointing)
    work = workload(2, 2, 60, 30, teacher=600)
    resident, peak = measured_update(policy, micro_batch(policy, work, context))
    plan = plan_memory(setup_of(policy, precision, work))
    planned = max(sum(plan.phases[phase].values()) for phase in ("teacher", "update"))
    assert_close(planned, peak - resident)


@pytest.mark.parametrize("name", PRECISIONS)
def test_rollouts(name, tokenizer):
    precision, dtype, context = numerics(name)
    policy = text_policy(dtype, checkpointing=False)
    work = workload(4, 4, 150, 60)
    engine = TransformersEngine()
    engine.bind(policy, tokenizer)
    engine._stop_ids = frozenset({599})
    prompts = prompts_of(policy, 4, 150, with_images=False)
    with LiveMemory(policy.parameters()) as memory, context():
        resident = memory.current
        engine.generate(prompts, Sampling(max_completion_tokens=60, seed=1), 4)
    plan = plan_memory(setup_of(policy, precision, work))
    assert_close(sum(plan.phases["rollout"].values()), memory.peak - resident)


def test_a_frozen_vision_tower_saves_nothing():
    precision, dtype, context = numerics("float32")
    policy = vision_policy(dtype, checkpointing=False)
    policy.model.model.visual.requires_grad_(False)
    work = workload(3, 3, 100, 40, with_images=True)
    loss = micro_batch(policy, work, context, with_images=True)
    loss().backward()
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    with LiveMemory([*policy.parameters(), *(weight.grad for weight in trained)]) as memory:
        resident = memory.current
        loss().backward()
    plan = plan_memory(
        dataclasses.replace(
            setup_of(policy, precision, work),
            freeze_vision=True,
            num_trainable=sum(weight.numel() for weight in trained),
        )
    )
    assert plan.resident["weights"] + plan.resident["gradients"] == resident
    assert_close(sum(plan.phases["update"].values()), memory.peak - resident)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["float32", "autocast"])
def test_adapters_beside_a_frozen_model(name, checkpointing):
    """Weights, and gradients of the adapters alone; activations nearly as if all were trained."""
    precision, dtype, context = numerics(name)
    policy = text_policy(dtype, checkpointing=checkpointing)
    full = setup_of(policy, precision, workload(3, 4, 120, 60))
    add_adapters(policy.model, Lora(rank=4, alpha=8))
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    setup = dataclasses.replace(
        full,
        num_adapter_sets=1,
        num_trainable=full.architecture.text.adapter_weights(4, LANGUAGE_LAYERS),
    )
    assert setup.num_trainable == sum(weight.numel() for weight in trained)
    loss = micro_batch(policy, setup.workload, context)
    loss().backward()
    with LiveMemory([*policy.parameters(), *(weight.grad for weight in trained)]) as memory:
        resident = memory.current
        loss().backward()
    plan = plan_memory(setup)
    assert plan.resident["weights"] + plan.resident["gradients"] == resident
    assert_close(sum(plan.phases["update"].values()), memory.peak - resident)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_mixture_of_experts(checkpointing):
    precision, dtype, context = numerics("float32")
    policy = expert_policy(dtype, checkpointing=checkpointing)
    work = workload(3, 4, 120, 60)
    resident, peak = measured_update(policy, micro_batch(policy, work, context))
    plan = plan_memory(setup_of(policy, precision, work))
    assert plan.resident["weights"] + plan.resident["gradients"] == resident
    assert_close(sum(plan.phases["update"].values()), peak - resident)
