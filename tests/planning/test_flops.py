"""FLOPs against torch's own counter, traffic and seconds by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlsd_lightning.models.adapters import LANGUAGE_LAYERS, Lora, add_adapters
from rlsd_lightning.planning.architecture import read_architecture
from rlsd_lightning.planning.flops import (
    cache_traffic_per_token,
    forward_flops,
    head_flops,
    plan_step,
    sync_bytes,
    vision_flops,
)
from rlsd_lightning.planning.setup import Parallel, read_precision
from rlsd_lightning.planning.workload import Rows
from tests.planning import tiny

W = 4
PAIRS = {
    # kind: bytes sent per weight of 2 bytes and step, K = 8, over (W - 1) / W
    "ddp": 2 * 4,  # float32 gradients there and back
    "zero1": 2 + 2,
    "zero2": 8 * 2 + 2,
    "zero3": 8 * (2 + 3 * 2) + 2,  # K x (gradients; weights forward, back, teacher); rollouts
}


def counted(policy, loss, *, backward=True):
    with FlopCounterMode(display=False) as counter:
        value = loss()
        if backward:
            value.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_update_of_a_model_that_reads_images(checkpointing):
    """Every matrix product, recomputed ones included. Attention is made of plain products here: whole squares.

    torch's counter does not know addmm_, by which the gradients of hidden states and of the head are written.
    """
    policy = tiny.vision_policy(torch.float32, checkpointing=checkpointing, attention="eager")
    work = tiny.workload(3, 2, 100, 30, with_images=True)
    setup = tiny.setup_of(policy, "32-true", work)
    found = counted(policy, tiny.micro_batch(policy, work, with_images=True))
    unknown = 2 * head_flops(setup.architecture.text, work.student().num_predicted)
    assert plan_step(setup).phases["update"].flops == found + unknown


def test_the_update_of_a_model_whose_vision_tower_is_frozen():
    policy = tiny.vision_policy(torch.float32, checkpointing=False, attention="eager")
    policy.model.model.visual.requires_grad_(False)
    work = tiny.workload(2, 2, 100, 30, with_images=True)
    setup = tiny.setup_of(policy, "32-true", work, freeze_vision=True)
    found = counted(policy, tiny.micro_batch(policy, work, with_images=True))
    unknown = 2 * head_flops(setup.architecture.text, work.student().num_predicted)
    assert plan_step(setup).phases["update"].flops == found + unknown


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_update_of_adapters(checkpointing):
    """Frozen weights and the head have no gradient of their own to compute."""
    policy = tiny.text_policy(torch.float32, checkpointing=checkpointing, attention="eager")
    work = tiny.workload(3, 2, 100, 30)
    text = tiny.setup_of(policy, "32-true", work).architecture.text
    trained = text.adapter_weights(4, LANGUAGE_LAYERS)
    setup = tiny.setup_of(policy, "32-true", work, num_adapter_sets=1, num_trainable=trained)
    add_adapters(policy.model, Lora(rank=4, alpha=8))
    found = counted(policy, tiny.micro_batch(policy, work))
    unknown = head_flops(text, work.student().num_predicted)
    assert plan_step(setup).phases["update"].flops == pytest.approx(found + unknown, rel=0.03)


def test_a_forward_pass_of_text_to_the_last_product():
    policy = tiny.text_policy(torch.float32, checkpointing=False, attention="eager")
    work = tiny.workload(2, 3, 50, 20)
    with torch.no_grad():
        found = counted(policy, tiny.micro_batch(policy, work), backward=False)
    shape = tiny.setup_of(policy, "32-true", work).architecture.text
    assert forward_flops(shape, work.student()) == found


def test_an_image_of_qwen3_vl_8b_by_hand():
    """A megapixel: 4,096 patches of 1,536 numbers; 27 blocks of 4 x 1152^2 + 2 x 1152 x 4304 weights; 4 mergers."""
    vision = read_architecture("Qwen/Qwen3-VL-8B-Instruct").vision
    blocks = 2 * 4096 * 27 * (4 * 1152**2 + 2 * 1152 * 4304)
    embedding = 2 * 4096 * 1536 * 1152
    merging = 2 * 1024 * 4 * (4608**2 + 4608 * 4096)
    attention = 4 * 27 * 1152 * 4096**2
    assert vision_flops(vision, 1, 4096) == blocks + embedding + merging + attention


@pytest.mark.parametrize("kind", PAIRS)
def test_bytes_between_ranks(kind):
    name = "32-true" if kind == "ddp" else "bf16-mixed"
    found = sync_bytes(
        1000,
        1000,
        read_precision(name, "float32", kind),
        Parallel(kind=kind, gpus_per_node=W),
        num_micro_batches=8,
        asks_teacher=True,
    )
    assert found == pytest.approx(PAIRS[kind] * 1000 * (W - 1) / W)


def test_frozen_weights_send_no_gradients():
    plain, pair = read_precision("32-true", "float32", "ddp"), Parallel(kind="ddp", gpus_per_node=2)
    sent = sync_bytes(1000, 100, plain, pair, num_micro_batches=1, asks_teacher=False)
    assert sent == 2 * 4 * 100 / 2


def test_one_process_sends_nothing():
    step = plan_step(
        tiny.setup_of(
            tiny.text_policy(torch.float32, checkpointing=False),
            "32-true",
            tiny.workload(1, 2, 8, 4),
        )
    )
    assert step.phases["sync"].network_bytes == 0


def test_traffic_of_a_cached_token_by_hand():
    """bfloat16, 36 layers: 2 x 1024 read, 2 x 4096 repeated, 2 x 4096 read by attention; 2 bytes each."""
    text = read_architecture("Qwen/Qwen3-VL-8B-Instruct").text
    bf16 = read_precision("bf16-mixed", "float32", "zero2")
    assert cache_traffic_per_token(text, bf16) == 36 * 2 * (2 * 1024 + 2 * 4096 + 2 * 4096)


def test_a_mask_doubles_attention_and_nothing_else():
    text = read_architecture("Qwen/Qwen3-8B").text
    row = Rows(num_rows=1, prompt_tokens=100, completions_per_row=1, completion_tokens=50)
    added = forward_flops(text, row, masked=True) - forward_flops(text, row)
    assert added == 36 * 2 * 4096 * 150**2


def test_tokens_of_a_step_are_those_of_all_ranks():
    policy = tiny.text_policy(torch.float32, checkpointing=False)
    setup = tiny.setup_of(
        policy,
        "32-true",
        tiny.workload(3, 4, 100, 50),
        parallel=Parallel(kind="ddp", num_nodes=2, gpus_per_node=2),
    )
    step = plan_step(setup)
    assert step.completion_tokens == 4 * 3 * 4 * 50
    assert step.computed_tokens == 4 * 3 * (100 + 4 * 50)
    assert step.seconds == sum(phase.seconds for phase in step.phases.values())
