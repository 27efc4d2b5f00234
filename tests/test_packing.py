"""A row with branches gives the log-probs and gradients of one row per completion and of plain forwards."""

import pytest
import torch

from rlsd_lightning.packing import (
    PADDING,
    additive,
    attention_mask,
    image_batch,
    pack_rows,
    visibility,
)
from rlsd_lightning.types import ImageBatch, Prompt

LENGTHS = [[3, 7, 1, 5], [4, 4], [6, 2, 1], [8]]
"""Completions per prompt, of unequal lengths; the last prompt has a single one."""


def unique_images(prompts):
    images = {image.key: image for prompt in prompts for image in prompt.images}
    return {key: i for i, key in enumerate(images)}, image_batch(list(images.values()))


def padded(completions):
    rows = [torch.tensor(completion) for completion in completions]
    token_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return token_ids, torch.arange(token_ids.shape[1]) < lengths.unsqueeze(1)


def packed_logprobs(policy, units, temperature):
    """Score the completions of rows as training does: pack, encode each image once, one forward. Flat. [N]"""
    slots, images = unique_images([prompt for prompt, _ in units])
    token_ids, mask = padded([completion for _, group in units for completion in group])
    logprobs = policy.logprobs(
        pack_rows(units, slots), token_ids, mask, policy.encode_images(images), temperature
    )
    return logprobs[mask]


@pytest.fixture(params=["sdpa", "eager"])
def scored_policy(policy, request):
    policy.model.set_attn_implementation(request.param)
    return policy


@pytest.fixture(params=["student", "teacher"])
def units(request, prompts, teacher_prompts, random_tokens):
    views = {"student": prompts, "teacher": teacher_prompts}[request.param]
    return [
        (prompt, random_tokens(lengths, seed=i))
        for i, (prompt, lengths) in enumerate(zip(views, LENGTHS, strict=True))
    ]


@pytest.fixture
def singles(units):
    """The same completions, one row each."""
    return [(prompt, [completion]) for prompt, group in units for completion in group]


def test_branches_give_the_logprobs_of_plain_forwards(
    scored_policy, units, singles, plain_logprobs
):
    with torch.no_grad():
        wanted = torch.cat(
            [plain_logprobs(scored_policy, p, group[0], 0.7) for p, group in singles]
        )
        found = packed_logprobs(scored_policy, units, 0.7)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_one_row_per_completion_gives_the_logprobs_of_plain_forwards(
    scored_policy, singles, plain_logprobs
):
    with torch.no_grad():
        wanted = torch.cat(
            [plain_logprobs(scored_policy, p, group[0], 1.3) for p, group in singles]
        )
        found = packed_logprobs(scored_policy, singles, 1.3)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_branches_give_the_gradients_of_plain_forwards(
    scored_policy, units, singles, plain_logprobs, gradients_of, assert_same_gradients
):
    """Of every weight, the vision tower's and the tied embedding's too; plain forwards run the tower once each."""
    plain = torch.cat([plain_logprobs(scored_policy, p, group[0], 0.7) for p, group in singles])
    weights = torch.randn(
        plain.shape
    )  # every token pulls its own way, so that no two errors cancel
    wanted = gradients_of(scored_policy, plain @ weights)
    assert float(wanted["model.visual.patch_embed.proj.weight"].abs().max()) > 1e-3
    for rows in (units, singles):
        found = gradients_of(scored_policy, packed_logprobs(scored_policy, rows, 0.7) @ weights)
        assert_same_gradients(found, wanted)


def test_a_text_model_gives_the_same_logprobs_and_gradients(
    text_policy, text_prompts, random_tokens, plain_logprobs, gradients_of, assert_same_gradients
):
    units = [(prompt, random_tokens([5, 2, 6], seed=i)) for i, prompt in enumerate(text_prompts)]
    plain = torch.cat([plain_logprobs(text_policy, p, c) for p, group in units for c in group])
    packed = packed_logprobs(text_policy, units, 1.0)
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)
    weights = torch.randn(plain.shape)
    assert_same_gradients(
        gradients_of(text_policy, packed @ weights), gradients_of(text_policy, plain @ weights)
    )


def test_gradient_checkpointing_changes_nothing(
    policy, prompts, random_tokens, gradients_of, assert_same_gradients
):
    units = [(prompt, random_tokens([3, 4])) for prompt in prompts[:2]]
    wanted = gradients_of(policy, packed_logprobs(policy, units, 1.0).sum())
    policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.train()
    assert_same_gradients(gradients_of(policy, packed_logprobs(policy, units, 1.0).sum()), wanted)


def test_an_image_goes_through_the_vision_tower_once(
    policy, prompts, teacher_prompts, random_tokens
):
    """Three unique images, of 16, 24 and 8 patches, in six prompts of two views with three completions each."""
    seen = []
    policy.model.model.visual.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    slots, images = unique_images([*prompts, *teacher_prompts])
    features = policy.encode_images(images)
    for view in (prompts, teacher_prompts):
        units = [(prompt, random_tokens([2, 3, 4])) for prompt in view]
        token_ids, mask = padded([completion for _, group in units for completion in group])
        policy.logprobs(pack_rows(units, slots), token_ids, mask, features, 1.0)
    assert seen == [16 + 24 + 8]


def test_two_views_share_features_with_the_gradients_of_two_encodings(
    policy, prompts, teacher_prompts, random_tokens, gradients_of, assert_same_gradients
):
    rows = [
        [(prompt, random_tokens([2, 3])) for prompt in view] for view in (prompts, teacher_prompts)
    ]
    apart = sum(packed_logprobs(policy, units, 1.0).sum() for units in rows)
    wanted = gradients_of(policy, apart)
    together = packed_logprobs(policy, rows[0] + rows[1], 1.0).sum()
    assert_same_gradients(gradients_of(policy, together), wanted)


def test_padding_and_other_rows_change_nothing(policy, prompts, random_tokens):
    """Alone a row is as wide as itself; beside a row of 40 more tokens it is mostly padding."""
    unit = (prompts[3], random_tokens([2, 3]))
    with torch.no_grad():
        alone = packed_logprobs(policy, [unit], 1.0)
        beside = packed_logprobs(policy, [unit, (prompts[1], random_tokens([20, 20]))], 1.0)
    torch.testing.assert_close(beside[:5], alone, atol=1e-5, rtol=0)


def test_a_sibling_changes_nothing(policy, prompts, random_tokens):
    first, second, other = random_tokens([4, 5, 5])
    with torch.no_grad():
        found = packed_logprobs(policy, [(prompts[0], [first, second])], 1.0)
        changed = packed_logprobs(policy, [(prompts[0], [first, other])], 1.0)
        swapped = packed_logprobs(policy, [(prompts[0], [second, first])], 1.0)
    torch.testing.assert_close(changed[:4], found[:4], atol=1e-5, rtol=0)
    torch.testing.assert_close(swapped, torch.cat([found[4:], found[:4]]), atol=1e-5, rtol=0)


def test_entropies_are_those_of_the_distributions_the_tokens_were_drawn_from(
    policy, prompts, random_tokens
):
    """At temperature 2 and against the whole softmax of each position, computed from logits."""
    prompt, completion = prompts[0], random_tokens([5])[0]
    slots, images = unique_images([prompt])
    token_ids, mask = padded([completion])
    rows, features = pack_rows([(prompt, [completion])], slots), policy.encode_images(images)
    with torch.no_grad():
        states = policy.predictors(rows, mask, features)
        logprobs, entropy = policy.logprobs_and_entropy(states, token_ids, mask, 2.0)
        hidden = policy.hidden_states(
            rows.input_ids, rows.position_ids, rows.branch_ids != PADDING, features
        )
        whole = (policy.logits(hidden)[0, len(prompt.token_ids) - 1 : -1] / 2.0).log_softmax(-1)
    torch.testing.assert_close(entropy[0], -(whole.exp() * whole).sum(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        logprobs[0], whole.gather(1, token_ids.T).squeeze(1), atol=1e-5, rtol=0
    )


def test_a_micro_batch_without_loss_tokens_has_a_gradient_of_zero(
    policy, prompts, random_tokens, gradients_of
):
    """All its completions could not be judged: Lightning still calls backward on it."""
    unit = (prompts[0], random_tokens([2, 3]))
    slots, images = unique_images([prompts[0]])
    token_ids, mask = padded(unit[1])
    logprobs = policy.logprobs(
        pack_rows([unit], slots),
        token_ids,
        torch.zeros_like(mask),
        policy.encode_images(images),
        1.0,
    )
    assert torch.equal(logprobs, torch.zeros_like(mask, dtype=torch.float32))
    assert all(not gradient.any() for gradient in gradients_of(policy, logprobs.sum()).values())


def test_rows_by_hand():
    """Prompt 7 8 9 at positions 0 1 4 (an image moved them), branches [1 2] and [3]; a second row of prompt 5, [6]."""
    first = Prompt(
        id="a", token_ids=[7, 8, 9], position_ids=torch.tensor([[0, 1, 4], [0, 1, 2], [0, 1, 3]])
    )
    second = Prompt(id="b", token_ids=[5], position_ids=torch.zeros(3, 1, dtype=torch.int64))
    rows = pack_rows([(first, [[1, 2], [3]]), (second, [[6]])], {})
    assert rows.input_ids.tolist() == [[7, 8, 9, 1, 2, 3], [5, 6, 0, 0, 0, 0]]
    assert rows.branch_ids.tolist() == [[0, 0, 0, 1, 1, 2], [0, 1, -1, -1, -1, -1]]
    assert rows.position_ids[0].tolist() == [[0, 1, 4, 5, 6, 5], [0, 1, 0, 0, 0, 0]]
    assert rows.position_ids[1].tolist() == [[0, 1, 2, 5, 6, 5], [0, 1, 0, 0, 0, 0]]
    # Token 1 and token 3 are predicted by the prompt's last token, at place 2; the second row starts at place 6.
    assert rows.predictor_index.tolist() == [[2, 3], [2, 0], [6, 0]]
    assert rows.image_index == ()


def test_images_are_numbered_by_key_row_by_row(prompts):
    """Prompts show square; square, wide; nothing; low."""
    slots, images = unique_images(prompts)
    rows = pack_rows([(prompt, [[1]]) for prompt in [prompts[3], *prompts]], slots)
    assert rows.image_index == (2, 0, 0, 1, 2)
    assert images.grids.tolist() == [[1, 4, 4], [1, 4, 6], [1, 2, 4]]
    assert len(images.pixel_values) == 16 + 24 + 8


def test_no_images_make_no_image_batch():
    assert image_batch([]) is None


def test_a_row_with_branches_needs_the_whole_mask_and_one_without_a_padding_mask(
    prompts, random_tokens
):
    several = pack_rows([(prompts[2], random_tokens([2, 2]))], {})
    single = pack_rows([(prompts[2], random_tokens([2]))], {})
    length = several.input_ids.shape[1]
    assert attention_mask(several, "sdpa", torch.float32).shape == (1, 1, length, length)
    assert torch.equal(attention_mask(single, "eager", torch.float32), single.branch_ids != PADDING)


def test_padding_sees_something_and_is_seen_by_no_token():
    """A row of the attention without anything to see would be NaN."""
    seen = visibility(torch.tensor([[0, 1, PADDING, PADDING], [PADDING] * 4]))[:, 0]
    assert seen.any(-1).all()
    assert not seen[0, :2, 2:].any()


def test_an_additive_mask_is_zero_or_the_most_negative_number():
    mask = additive(torch.tensor([True, False]), torch.bfloat16)
    assert mask.tolist() == [0.0, torch.finfo(torch.bfloat16).min]


def test_moving_rows_and_images_moves_every_tensor(prompts, random_tokens):
    slots, images = unique_images(prompts)
    rows = pack_rows([(prompt, random_tokens([2])) for prompt in prompts], slots).to("meta")
    tensors = [rows.input_ids, rows.position_ids, rows.branch_ids, rows.predictor_index]
    moved = images.to("meta")
    assert isinstance(moved, ImageBatch)
    tensors += [moved.pixel_values, moved.grids]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert rows.image_index == (0, 0, 1, 2)
