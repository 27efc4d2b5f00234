"""Loading a policy and its reader from a folder, and what is refused."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2VLConfig,
    Qwen3Config,
    Qwen3VLProcessor,
)

from rlsd_lightning.models import family_of, load_policy, load_reader
from rlsd_lightning.models.qwen3_vl import Qwen3VLFamily
from rlsd_lightning.models.text import TextFamily

TINY = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


@pytest.fixture
def folder(policy, processor, tmp_path):
    """The tiny vision-language model as a Hugging Face folder."""
    policy.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def text_folder(text_policy, tokenizer, tmp_path):
    text_policy.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def assert_same_weights(found, wanted):
    assert dict(found.named_parameters()).keys() == dict(wanted.named_parameters()).keys()
    for name, weight in found.named_parameters():
        assert torch.equal(weight, wanted.get_parameter(name)), name


def test_a_folder_loads_as_the_policy_that_was_saved(folder, policy):
    loaded = load_policy(folder, dtype="float32")
    assert isinstance(loaded.family, Qwen3VLFamily)
    assert_same_weights(loaded.model, policy.model)
    assert loaded.head_weight is loaded.model.get_input_embeddings().weight  # tied, as it was
    assert (loaded.dtype, loaded.device) == (torch.float32, torch.device("cpu"))


def test_a_text_folder_loads_as_a_text_policy(text_folder, text_policy):
    loaded = load_policy(text_folder, dtype="float32")
    assert isinstance(loaded.family, TextFamily)
    assert_same_weights(loaded.model, text_policy.model)


def test_weights_take_the_dtype_asked_for(folder):
    assert load_policy(folder, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_is_the_one_asked_for(folder, implementation):
    policy = load_policy(folder, dtype="float32", attn_implementation=implementation)
    assert policy.model.config._attn_implementation == implementation
    assert policy.model.model.language_model.config._attn_implementation == implementation


def test_an_attention_that_cannot_take_the_mask_is_refused_before_loading(tmp_path):
    with pytest.raises(ValueError, match=r"attn_implementation is 'flash_attention_2'.*sdpa"):
        load_policy(str(tmp_path / "nothing here"), attn_implementation="flash_attention_2")


def test_a_frozen_vision_tower_has_no_gradient_and_the_rest_has(folder):
    policy = load_policy(folder, dtype="float32", freeze_vision=True)
    frozen = {name for name, weight in policy.model.named_parameters() if not weight.requires_grad}
    assert frozen == {name for name, _ in policy.model.named_parameters() if ".visual." in name}
    assert frozen


def test_a_text_model_has_no_vision_tower_to_freeze(text_folder):
    with pytest.raises(ValueError, match="freeze_vision"):
        load_policy(text_folder, freeze_vision=True)


def test_gradient_checkpointing_is_on_where_asked_for(folder):
    assert load_policy(folder, gradient_checkpointing=True).model.is_gradient_checkpointing
    assert not load_policy(folder).model.is_gradient_checkpointing


def test_a_loaded_policy_is_in_training_mode_throughout(folder):
    """Nobody else switches it on, and gradient checkpointing does nothing in evaluation mode."""
    assert all(module.training for module in load_policy(folder).modules())


def test_the_reader_of_a_vision_language_model_is_its_processor(folder, tokenizer):
    reader, family = load_reader(folder)
    assert isinstance(reader, Qwen3VLProcessor)
    assert isinstance(family, Qwen3VLFamily)
    assert reader.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_the_reader_of_a_text_model_is_its_tokenizer(text_folder, tokenizer):
    reader, family = load_reader(text_folder)
    assert isinstance(family, TextFamily)
    assert reader.get_vocab() == tokenizer.get_vocab()


def test_an_unknown_vision_language_family_is_refused():
    with pytest.raises(ValueError, match=r"'qwen2_vl'.*known here: qwen3_vl, qwen3_vl_moe\."):
        family_of(Qwen2VLConfig())


def test_a_model_with_sliding_layers_is_refused():
    config = Qwen3Config(num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(ValueError, match=r"'qwen3'.*sliding_attention.*full attention"):
        family_of(config)


@pytest.mark.parametrize(
    "model",
    [
        lambda: PhiForCausalLM(PhiConfig(**TINY)),  # its output has a bias
        lambda: Gemma2ForCausalLM(
            Gemma2Config(**TINY, layer_types=["full_attention"])
        ),  # soft-capped
    ],
)
def test_an_output_that_is_not_plainly_linear_is_refused(model, tmp_path):
    model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a plain linear output"):
        load_policy(str(tmp_path), dtype="float32")


def test_logits_are_float32_and_those_of_the_model(text_policy, text_prompts):
    prompt = text_prompts[0]
    ids = torch.tensor([prompt.token_ids])
    policy = text_policy.bfloat16()
    with torch.no_grad():
        hidden = policy.hidden_states(
            ids, prompt.position_ids.unsqueeze(1), torch.ones_like(ids).bool(), []
        )
        found = policy.logits(hidden)
        wanted = policy.model(input_ids=ids).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted.float(), atol=0, rtol=0)


def test_a_model_that_is_not_there_is_said_in_our_words(tmp_path):
    with pytest.raises(ValueError, match=r"model.path is '.*nowhere', which is neither a folder"):
        load_reader(str(tmp_path / "nowhere"))


def test_a_micro_batch_without_images_gives_the_vision_tower_gradients_of_0(policy, gradients_of):
    features, nothing = policy.look_at(None)
    assert features == []
    assert float(nothing.detach()) == 0.0
    gradients = gradients_of(policy, nothing)
    tower = {name for name, _ in policy.model.model.visual.named_parameters()}
    assert all(float(gradients[f"model.visual.{name}"].abs().max()) == 0.0 for name in tower)
    asked = {name for name, weight in policy.model.named_parameters() if weight.grad is not None}
    assert asked == {f"model.visual.{name}" for name in tower}


def test_a_frozen_vision_tower_reads_a_blank_only_where_every_rank_must_run_it(policy, monkeypatch):
    read = []
    monkeypatch.setattr(policy, "encode_images", lambda images: read.append(images) or [])
    policy.model.model.visual.requires_grad_(False)
    policy.look_at(None)
    assert read == [None]
    monkeypatch.setattr(policy.placement.__class__, "is_sharded", True)
    with pytest.raises(RuntimeError):  # nothing came out to be added up
        policy.look_at(None)
    assert read[1] is not None
