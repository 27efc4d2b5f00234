"""The text family: positions count tokens, images are refused."""

import pytest
import torch

from rlsd_lightning.models import family_of
from rlsd_lightning.types import ImageBatch


def test_positions_count_tokens(text_policy):
    assert text_policy.family.positions([9, 9, 9], []).tolist() == [[0, 1, 2]]


def test_the_family_is_found_by_the_lack_of_a_vision_tower(text_policy):
    assert type(family_of(text_policy.model.config)).__name__ == "TextFamily"


def test_nothing_is_a_placeholder(text_policy):
    assert text_policy.family.placeholder_token_ids == ()
    assert text_policy.family.image_token_id is None


def test_hidden_states_are_those_of_the_model(text_policy, text_prompts):
    prompt = text_prompts[1]
    ids = torch.tensor([prompt.token_ids])
    with torch.no_grad():
        found = text_policy.hidden_states(
            ids, prompt.position_ids.unsqueeze(1), torch.ones_like(ids).bool(), []
        )
        wanted = text_policy.model.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_images_are_refused(text_policy):
    batch = ImageBatch(pixel_values=torch.zeros(4, 2), grids=torch.tensor([[1, 2, 2]]))
    with pytest.raises(ValueError, match="text model cannot read the prompt's 1 images"):
        text_policy.family.positions([1], [(1, 2, 2)])
    with pytest.raises(ValueError, match="text model cannot read an image"):
        text_policy.family.num_image_tokens((1, 2, 2))
    with pytest.raises(ValueError, match="Qwen3ForCausalLM has no vision tower for 1 images"):
        text_policy.encode_images(batch)
