"""New weights are gathered in one place, and none of what lies there outlives its layer."""

import pytest
import torch

from rlsd_lightning.weights import named_weights
from tests.helpers.vllm_case import EXACT


def test_rows_of_a_layer_lie_an_odd_number_of_cache_lines_apart(text):
    from rlsd_lightning.engines.vllm_packing import PackingRoom

    rows = PackingRoom()._rows(torch.empty(6, 64, dtype=torch.bfloat16, device="meta"))
    assert rows.shape == (6, 64)
    assert rows.stride() == (96, 1)  # 128 bytes are 2 lines, so 3 are taken
    rows = PackingRoom()._rows(torch.empty(6, 16, device="meta"))
    assert rows.stride() == (16, 1)  # 64 bytes are 1 line


@pytest.mark.skipif(torch.cuda.is_available(), reason="GPUs do not pack weights")
def test_all_layers_take_turns_in_room_for_the_largest(text):
    text.sync()
    transfer = text.engine._llm.llm_engine.model_executor.driver_worker.worker
    room = transfer.weight_transfer_engine._room
    sizes = [w.numel() for n, w in named_weights(text.policy) if "proj" in n]
    assert 0 < len(room._memory) < 4 * 2 * max(sizes) * 2  # gate and up together, rows apart
    room._memory.fill_(255)  # NaN
    assert text.gap() <= EXACT
    text.shake()
    text.sync()
    assert text.gap() <= EXACT
