"""Sizes of models from their configs; the presets' are those that the hub shows."""

import pytest
import yaml
from transformers import LlamaConfig

import rlsd_lightning.conf
from rlsd_lightning.planning.architecture import architecture_of, read_architecture

PRESETS = {
    # model=: weights on the hub (safetensors total), shown there as 2B, 4B, ...
    "qwen3_vl_2b": 2_127_532_032,
    "qwen3_vl_4b": 4_437_815_808,
    "qwen3_vl_8b": 8_767_123_696,
    "qwen3_vl_32b": 33_357_390_064,
    "qwen3_vl_30b_a3b": 31_070_754_032,
    "qwen3_0_6b": 596_049_920,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
}


def path_of(preset):
    from importlib import resources

    text = (resources.files(rlsd_lightning.conf) / "model" / f"{preset}.yaml").read_text()
    return yaml.safe_load(text)["path"], text.splitlines()[0]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_published_number_of_weights_and_says_so(preset):
    path, first_line = path_of(preset)
    architecture = read_architecture(path)
    assert architecture.num_params == PRESETS[preset]
    assert f"{PRESETS[preset] / 1e9:.2f} B" in first_line
    if architecture.vision is not None and preset != "qwen3_vl_30b_a3b":
        assert f"{architecture.num_vision_params / 1e9:.2f} B of them vision tower" in first_line


def test_matmul_weights_are_the_weights_of_linear_layers():
    """Counted from sizes, as FLOPs need them, and from the model's modules."""
    architecture = read_architecture("Qwen/Qwen3-VL-8B-Instruct")
    text, vision = architecture.text, architecture.vision
    tower = vision.num_blocks * vision.block_matmul_weights
    tower += vision.num_mergers * vision.merger_matmul_weights
    assert architecture.num_vision_linear_weights == tower
    layers = text.num_layers * text.layer_matmul_weights
    assert architecture.num_linear_weights == layers + tower


def test_three_billion_weights_of_the_mixture_are_active():
    architecture = read_architecture("Qwen/Qwen3-VL-30B-A3B-Instruct")
    assert architecture.num_active_params == pytest.approx(3.0e9, rel=0.05)


def test_a_folder_comes_before_the_presets_of_the_same_name(tmp_path, monkeypatch, policy):
    folder = tmp_path / "Qwen" / "Qwen3-VL-8B-Instruct"
    policy.model.config.save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    found = read_architecture("Qwen/Qwen3-VL-8B-Instruct")
    assert found.num_params == sum(weight.numel() for weight in policy.parameters())


def test_a_text_model_without_norms_of_queries_is_known_as_such():
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=40,
    )
    text = architecture_of(config).text
    assert (text.has_qk_norms, text.head_dim, text.num_kv_heads) == (False, 8, 2)


def test_a_model_that_is_nowhere_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"model\.path is .*nowhere.*choose a preset"):
        read_architecture(str(tmp_path / "nowhere"))
