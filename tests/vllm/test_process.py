"""The process around vLLM is left as it was."""

import os
import random
import sys

import numpy as np
import pytest
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_engine import VLLMEngine
from rlsd_lightning.types import Sampling
from rlsd_lightning.user_errors import is_users_to_mend
from tests.helpers.vllm_case import EXACT, Case


def test_there_is_one_engine_in_a_process(text, model_folders):
    other = VLLMEngine(str(model_folders["text_tied"]), dtype="float32", temperature=1.0)
    other.bind(text.policy, text.encoder.tokenizer)
    with pytest.raises(EngineError, match="another vLLM engine lives in this process"):
        other.start()


def test_the_process_is_left_as_it_was(living, model_folders, monkeypatch):
    living.close_all()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "7")
    random.seed(3), np.random.seed(3), torch.manual_seed(3)

    def state():
        return (
            {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")},
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.random.get_rng_state().tolist(),
            torch.set_num_threads,
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )

    before = state()
    case = Case(model_folders["text_tied"])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "7")
    assert dict(zip(range(8), state(), strict=True)) == dict(zip(range(8), before, strict=True))
    case.sample()
    assert state() == before
    case.engine.close()
    case.engine.close()
    assert state() == before
    assert not torch.distributed.is_initialized()


def test_the_ranks_group_of_processes_outlives_the_engine(living, model_folders, tmp_path):
    living.close_all()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    try:
        case = Case(model_folders["text_tied"])
        assert case.gap() <= EXACT
        case.engine.close()
        assert torch.distributed.is_initialized()
        torch.distributed.all_reduce(torch.ones(1))
    finally:
        torch.distributed.destroy_process_group()


def test_an_engine_says_what_it_lacks(model_folders):
    engine = VLLMEngine(str(model_folders["text_tied"]), dtype="float32", temperature=1.0)
    with pytest.raises(EngineError, match="vLLM was not started"):
        engine.generate([], Sampling(max_completion_tokens=1), 1)
    with pytest.raises(ValueError, match=r"engine.sleep_level is 3. Set it to 0, 1, 2 or null"):
        VLLMEngine("x", dtype="float32", temperature=1.0, sleep_level=3)


def test_that_vllm_is_not_installed_is_told_without_a_traceback(text, living, monkeypatch):
    living.close_all()
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineError, match=r"cannot be imported .* engine=transformers") as error:
        text.engine.start()
    assert is_users_to_mend(error.value)
