"""Weights by name: every one, a tied one once, and taken over whole or not at all."""

import copy

import pytest
import torch

from rlsd_lightning.placement import Whole
from rlsd_lightning.weights import load_named_weights, named_weights


@pytest.fixture(params=["policy", "text_policy"])
def either_policy(request):
    return request.getfixturevalue(request.param)


def shaken(policy):
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn_like(weight))
    return other


def test_names_are_those_of_the_hugging_face_checkpoint(policy):
    """A tied output embedding has the name of the input embedding, as in a saved model."""
    names = [name for name, _ in named_weights(policy)]
    assert len(names) == len(set(names))
    assert "model.language_model.embed_tokens.weight" in names
    assert "model.visual.patch_embed.proj.weight" in names
    assert "lm_head.weight" not in names


def test_every_weight_is_there_whole_and_without_gradient(either_policy):
    given = dict(named_weights(either_policy))
    assert sum(t.numel() for t in given.values()) == sum(
        p.numel() for p in either_policy.parameters()
    )
    assert not any(tensor.requires_grad for tensor in given.values())


def test_the_order_is_fixed(either_policy):
    """Engines in other processes take weights in this order."""
    copied = copy.deepcopy(either_policy)
    assert [n for n, _ in named_weights(either_policy)] == [n for n, _ in named_weights(copied)]


def test_loaded_weights_are_the_given_ones_in_place(either_policy):
    other = shaken(either_policy)
    places = [weight.data_ptr() for weight in either_policy.parameters()]
    load_named_weights(either_policy, named_weights(other))
    for mine, theirs in zip(either_policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert [weight.data_ptr() for weight in either_policy.parameters()] == places
    assert either_policy.head_weight is either_policy.model.get_input_embeddings().weight


def test_weights_take_the_dtype_of_their_new_home(text_policy):
    """A policy trained in float32 may be sampled from in bfloat16."""
    home = copy.deepcopy(text_policy).bfloat16()
    load_named_weights(home, named_weights(shaken(text_policy)))
    assert {weight.dtype for weight in home.parameters()} == {torch.bfloat16}


def test_an_unknown_name_is_refused(text_policy):
    given = {**dict(named_weights(text_policy)), "model.extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"'model\.extra' is not a weight of Qwen3ForCausalLM"):
        load_named_weights(text_policy, given.items())


def test_another_shape_is_refused(text_policy):
    given = dict(named_weights(text_policy))
    given["model.norm.weight"] = torch.zeros(31)
    with pytest.raises(
        ValueError, match=r"'model\.norm\.weight' has shape \[31\]; the model's has \[32\]"
    ):
        load_named_weights(text_policy, given.items())


def test_missing_weights_are_refused(text_policy):
    given = dict(named_weights(text_policy))
    del given["model.norm.weight"], given["model.embed_tokens.weight"]
    with pytest.raises(
        ValueError, match=r"2 weights were not given.*'model\.embed_tokens\.weight'"
    ):
        load_named_weights(text_policy, given.items())


@pytest.mark.parametrize("bucket_bytes", [1, 10_000, 1 << 30])
def test_buckets_change_neither_what_comes_nor_its_order(either_policy, bucket_bytes):
    wanted = list(either_policy.model.named_parameters())
    found = list(named_weights(either_policy, bucket_bytes))
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, wanted, strict=True))


class CountingPlacement(Whole):
    """Notes how much is gathered at a time."""

    def __init__(self):
        self.gathered_bytes = []

    def gathered(self, parameters):
        self.gathered_bytes.append(sum(p.nbytes for p in parameters))
        return super().gathered(parameters)


def test_no_more_than_a_bucket_or_one_weight_is_gathered_at_a_time(either_policy):
    either_policy.placement = CountingPlacement()
    list(named_weights(either_policy, bucket_bytes=10_000))
    largest = max(p.nbytes for p in either_policy.parameters())
    assert max(either_policy.placement.gathered_bytes) <= max(10_000, largest)
    total = sum(p.nbytes for p in either_policy.parameters())
    assert sum(either_policy.placement.gathered_bytes) == total
    assert len(either_policy.placement.gathered_bytes) > 3
