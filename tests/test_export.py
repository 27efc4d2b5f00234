"""An exported folder is a Hugging Face model that answers as the policy does."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from rlsd_lightning.export import export_policy, prove
from rlsd_lightning.models import load_policy


def shake(policy):
    """Change every weight, so that nothing of the folder can come from the initial model."""
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.1 * torch.randn_like(weight))


def test_a_vision_language_policy_is_loaded_by_the_auto_classes(
    policy, processor, prompts, tmp_path
):
    shake(policy)
    export_policy(policy, processor, tmp_path / "out")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    reader = AutoProcessor.from_pretrained(tmp_path / "out")
    ids = torch.tensor([prompts[2].token_ids])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, policy.model(input_ids=ids).logits)
    assert type(reader) is type(processor)
    assert reader.chat_template == processor.chat_template
    assert model.generation_config.eos_token_id == policy.model.generation_config.eos_token_id


def test_a_text_policy_is_loaded_by_the_auto_classes(
    text_policy, tokenizer, text_prompts, tmp_path
):
    shake(text_policy)
    export_policy(text_policy, tokenizer, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    reader = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = torch.tensor([text_prompts[0].token_ids])
    with torch.no_grad():
        torch.testing.assert_close(
            model(input_ids=ids).logits, text_policy.model(input_ids=ids).logits
        )
    assert reader.encode("red 2+2") == tokenizer.encode("red 2+2")


def test_an_export_can_be_trained_again(policy, processor, tmp_path):
    export_policy(policy.bfloat16(), processor, tmp_path)
    again = load_policy(str(tmp_path), dtype="bfloat16")
    for mine, theirs in zip(again.parameters(), policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_folder_with_something_in_it_is_not_touched(policy, processor, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is not empty.*paths\.output"):
        export_policy(policy, processor, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_with_another_weight_is_found_out(policy, processor, tmp_path):
    export_policy(policy, processor, tmp_path)
    with torch.no_grad():
        policy.model.get_parameter("model.language_model.norm.weight")[0] += 1e-6
    with pytest.raises(RuntimeError, match=r"'model\.language_model\.norm\.weight' differs"):
        prove(policy, processor, tmp_path)


def test_a_folder_with_another_vocabulary_is_found_out(policy, processor, tmp_path):
    export_policy(policy, processor, tmp_path)
    other = AutoProcessor.from_pretrained(tmp_path)
    other.tokenizer.add_tokens(["<new>"])
    with pytest.raises(RuntimeError, match="its tokenizer differs"):
        prove(policy, other, tmp_path)
