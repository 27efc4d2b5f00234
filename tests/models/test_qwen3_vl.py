"""Qwen3-VL's positions, image tokens, vision tower and backbone, against transformers' own."""

from types import SimpleNamespace

import pytest
import torch

from rlsd_lightning.models import family_of
from rlsd_lightning.packing import image_batch
from rlsd_lightning.types import ImageBatch

TEXT = 5
"""Any id that is no image token."""


def rope_index(policy, token_ids, grids):
    """Ask transformers for the positions. [3, S]"""
    ids = torch.tensor([token_ids])
    kinds = (ids == policy.family.image_token_id).int()
    positions, _ = policy.model.model.get_rope_index(
        ids, kinds, torch.tensor(grids) if grids else None
    )
    return positions[:, 0]


def with_images(policy, pieces):
    """Build a sequence of text lengths (int) and image grids (tuple)."""
    token_ids, grids = [], []
    for piece in pieces:
        if isinstance(piece, int):
            token_ids += [TEXT] * piece
        else:
            token_ids += [policy.family.image_token_id] * policy.family.num_image_tokens(piece)
            grids.append(piece)
    return token_ids, grids


@pytest.mark.parametrize(
    "pieces",
    [
        [6],
        [3, (1, 4, 4), 2],
        [(1, 8, 2), 1],  # an image at the start, taller than wide
        [2, (1, 2, 12), 1, (1, 6, 4), 5],  # wider than tall, then taller than wide
        [1, (1, 2, 2), 1, (1, 2, 2), 1, (1, 10, 6)],  # an image at the end
    ],
)
def test_positions_are_those_of_transformers(policy, pieces):
    token_ids, grids = with_images(policy, pieces)
    found = policy.family.positions(token_ids, grids)
    assert torch.equal(found, rope_index(policy, token_ids, grids))


def test_positions_of_real_prompts_are_those_of_transformers(policy, prompts, teacher_prompts):
    for prompt in [*prompts, *teacher_prompts]:
        grids = [image.grid for image in prompt.images]
        assert torch.equal(prompt.position_ids, rope_index(policy, prompt.token_ids, grids))


def test_positions_by_hand(policy):
    """One text token at 0; an image of 2 x 3 merged patches from 1; the text goes on at 1 + max(2, 3) = 4."""
    token_ids, grids = with_images(policy, [1, (1, 4, 6), 2])
    assert policy.family.positions(token_ids, grids).tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5],
        [0, 1, 1, 1, 2, 2, 2, 4, 5],
        [0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]


def test_the_first_completion_token_stands_after_the_largest_position(make_prompt, images):
    """The prompt's positions are fewer than its tokens, because an image counts rows and columns."""
    prompt = make_prompt("a", "x", [images["wide"]])
    assert prompt.next_position == int(prompt.position_ids.max()) + 1 < len(prompt.token_ids)


def test_image_tokens_are_those_the_processor_writes(policy, prompts):
    for prompt in prompts:
        written = prompt.token_ids.count(policy.family.image_token_id)
        assert written == sum(policy.family.num_image_tokens(image.grid) for image in prompt.images)


def test_image_and_vision_tokens_are_placeholders(policy, tokenizer):
    names = tokenizer.convert_ids_to_tokens(list(policy.family.placeholder_token_ids))
    assert names == ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


def test_an_image_has_the_same_features_alone_and_in_a_batch(policy, prompts):
    square, wide = prompts[1].images
    together = policy.encode_images(image_batch([square, wide]))
    assert [len(features.tokens) for features in together] == [4, 6]
    for features, image in zip(together, [square, wide], strict=True):
        (alone,) = policy.encode_images(image_batch([image]))
        torch.testing.assert_close(features.tokens, alone.tokens, atol=1e-6, rtol=0)
        for level, level_alone in zip(features.deepstack, alone.deepstack, strict=True):
            torch.testing.assert_close(level, level_alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("by_image", [True, False])
def test_deepstack_features_are_read_by_image_or_whole(policy, by_image):
    """transformers 5.19 hands each layer's features over by image, 5.17 as one tensor."""
    tokens = torch.arange(12.0).view(6, 2)
    levels = [tokens + 100, tokens + 200]
    output = SimpleNamespace(
        pooler_output=tokens.split([4, 2]),
        deepstack_features=[level.split([4, 2]) for level in levels] if by_image else levels,
    )
    model = SimpleNamespace(model=SimpleNamespace(get_image_features=lambda *_, **__: output))
    batch = ImageBatch(pixel_values=torch.zeros(24, 2), grids=torch.tensor([[1, 4, 4], [1, 2, 4]]))
    first, second = policy.family.encode_images(model, batch)
    assert torch.equal(first.tokens, tokens[:4])
    assert torch.equal(second.tokens, tokens[4:])
    assert [level.tolist() for level in second.deepstack] == [
        (tokens[4:] + 100).tolist(),
        (tokens[4:] + 200).tolist(),
    ]


def test_hidden_states_are_those_of_the_whole_model(policy, prompts):
    """transformers runs tower, positions and language model in one call; we call them apart."""
    prompt = prompts[1]
    images = image_batch(prompt.images)
    ids = torch.tensor([prompt.token_ids])
    with torch.no_grad():
        found = policy.hidden_states(
            ids,
            prompt.position_ids.unsqueeze(1),
            torch.ones_like(ids).bool(),
            policy.encode_images(images),
        )
        wanted = policy.model.model(
            input_ids=ids,
            pixel_values=images.pixel_values,
            image_grid_thw=images.grids,
            mm_token_type_ids=(ids == policy.family.image_token_id).int(),
        ).last_hidden_state
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_deepstack_features_reach_the_hidden_states(policy, prompts):
    """They matter: without them the hidden states are others."""
    prompt = prompts[0]
    ids = torch.tensor([prompt.token_ids])
    (features,) = policy.encode_images(image_batch(prompt.images))
    bare = features._replace(
        deepstack=tuple(torch.zeros_like(level) for level in features.deepstack)
    )
    with torch.no_grad():
        with_them, without = (
            policy.hidden_states(
                ids, prompt.position_ids.unsqueeze(1), torch.ones_like(ids).bool(), [f]
            )
            for f in (features, bare)
        )
    assert float((with_them - without).abs().max()) > 1e-2


def test_features_that_do_not_fit_the_image_tokens_are_refused(policy, prompts):
    prompt = prompts[1]  # two images, of 4 and 6 tokens
    ids = torch.tensor([prompt.token_ids])
    features = policy.encode_images(image_batch(prompt.images))
    with pytest.raises(AssertionError, match="4 visual features for 10 image tokens"):
        policy.hidden_states(
            ids, prompt.position_ids.unsqueeze(1), torch.ones_like(ids).bool(), features[:1]
        )


def test_without_images_nothing_is_encoded(policy):
    assert policy.encode_images(None) == []


def test_the_family_is_found_by_model_type(policy):
    assert type(family_of(policy.model.config)).__name__ == "Qwen3VLFamily"
