"""Frozen weights in 4 bits: adapters train beside them, and engines get whole weights."""

import importlib.util

import pytest
import torch

from rlsd_lightning.models import adapters, load_policy, quantised
from rlsd_lightning.packing import pack_rows
from rlsd_lightning.weights import load_named_weights, named_weights

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
LORA = {"rank": 2, "alpha": 4}


@pytest.fixture
def saved(policy, processor, tmp_path):
    """A folder of the tiny Qwen3-VL."""
    policy.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return str(tmp_path)


def hidden(policy, prompt):
    rows = pack_rows([(prompt, [])], {})
    mask = torch.ones_like(rows.input_ids)
    return policy.hidden_states(rows.input_ids, rows.position_ids, mask, [])


@needs_bitsandbytes
def test_engines_get_the_weights_that_the_policy_computes_with(saved, prompts):
    # in training mode: in evaluation bitsandbytes may use a faster product that rounds to bfloat16
    policy = load_policy(saved, "float32", lora=LORA, load_in_4bit=True)
    for weight in adapters.weights_of(policy.model, adapters.POLICY):
        weight.data.add_(0.1)
    whole = policy.plain_copy().eval()
    load_named_weights(whole, named_weights(policy))
    text_only = prompts[2]
    torch.testing.assert_close(
        hidden(whole, text_only), hidden(policy, text_only), atol=1e-4, rtol=0
    )


@needs_bitsandbytes
def test_only_the_language_model_s_linear_layers_are_quantised(saved, policy):
    quantised_policy = load_policy(saved, "float32", lora=LORA, load_in_4bit=True)
    small = {n for n, w in quantised_policy.model.named_parameters() if w.dtype == torch.uint8}
    assert len(small) == 7 * policy.model.config.text_config.num_hidden_layers
    assert all("language_model.layers" in name for name in small)
    assert quantised_policy.dtype == torch.float32


@needs_bitsandbytes
def test_gradients_reach_the_adapters_and_nothing_else(saved, prompts):
    policy = load_policy(saved, "float32", lora=LORA, load_in_4bit=True)
    hidden(policy, prompts[2]).sum().backward()
    trained = {name for name, weight in policy.named_parameters() if weight.grad is not None}
    assert trained
    assert all(".lora_" in name for name in trained)


def test_four_bits_without_adapters_are_refused():
    with pytest.raises(ValueError, match=r"weights of 4 bits cannot be trained\. Set model\.lora"):
        quantised.settings("float32", None)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the package bitsandbytes is not installed"):
        quantised.settings("float32", LORA)
