"""Adapters beside frozen weights: what is trained, what teachers read, what engines and exports get."""

import copy

import pytest
import torch

from rlsd_lightning.models import Policy, adapters
from rlsd_lightning.models.adapters import LANGUAGE_LAYERS, POLICY, TEACHER, Lora
from rlsd_lightning.models.policy import AdapterView
from rlsd_lightning.packing import pack_rows
from rlsd_lightning.teacher import EmaTeacher, FrozenTeacher, LiveTeacher, SyncedTeacher
from rlsd_lightning.weights import load_named_weights, named_weights

SMALL = Lora(rank=2, alpha=6)


def with_adapters(policy, lora=SMALL, learnt=True):
    """Return a copy with adapters that have learnt something: B is not 0 any more."""
    model = copy.deepcopy(policy.model)
    adapters.add_adapters(model, lora)
    adapted = Policy(model, policy.family, has_adapters=True)
    if learnt:
        shake(adapted)
    return adapted


@torch.no_grad()
def shake(policy, adapter=POLICY):
    for weight in adapters.weights_of(policy.model, adapter):
        weight.add_(torch.randn_like(weight) * 0.3)


def hidden(policy, prompt):
    rows = pack_rows([(prompt, [])], {})
    mask = torch.ones_like(rows.input_ids)
    with torch.no_grad():
        return policy.hidden_states(rows.input_ids, rows.position_ids, mask, [])


def test_only_the_adapters_are_trained_and_in_float32(text_policy):
    policy = with_adapters(Policy(text_policy.model.bfloat16(), text_policy.family))
    trained = {name: w for name, w in policy.named_parameters() if w.requires_grad}
    assert len(trained) == 2 * len(LANGUAGE_LAYERS) * 2  # A and B of 7 layers in 2 blocks
    assert all(".lora_" in name for name in trained)
    assert {w.dtype for w in trained.values()} == {torch.float32}
    assert policy.dtype == torch.bfloat16


def test_fresh_adapters_change_nothing(text_policy, text_prompts):
    policy = with_adapters(text_policy, learnt=False)
    assert torch.equal(hidden(policy, text_prompts[0]), hidden(text_policy, text_prompts[0]))


def test_the_vision_tower_gets_no_adapters(policy):
    adapted = with_adapters(policy)
    assert adapters.adapter_layers(adapted.model.model.visual) == []
    assert adapted.vision_is_frozen
    assert not policy.vision_is_frozen


def test_named_weights_are_the_merged_model_s(text_policy, text_prompts):
    """W + (alpha / rank) B A, by hand: alpha / rank = 3."""
    policy = with_adapters(text_policy)
    merged = copy.deepcopy(text_policy)
    load_named_weights(merged, named_weights(policy))
    layer = policy.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A[POLICY].weight, layer.lora_B[POLICY].weight
    wanted = text_policy.model.model.layers[0].self_attn.q_proj.weight + 3.0 * (b @ a)
    found = merged.model.model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        hidden(merged, text_prompts[0]), hidden(policy, text_prompts[0]), atol=1e-5, rtol=0
    )


def test_named_weights_have_the_names_and_order_of_the_model_without_adapters(policy):
    wanted = [name for name, _ in named_weights(policy)]
    assert [name for name, _ in named_weights(with_adapters(policy))] == wanted


def test_a_plain_copy_takes_named_weights(text_policy, text_prompts):
    policy = with_adapters(text_policy)
    engine_copy = policy.plain_copy()
    assert not engine_copy.has_adapters
    assert torch.equal(hidden(engine_copy, text_prompts[0]), hidden(text_policy, text_prompts[0]))
    load_named_weights(engine_copy, named_weights(policy))
    torch.testing.assert_close(
        hidden(engine_copy, text_prompts[0]), hidden(policy, text_prompts[0]), atol=1e-5, rtol=0
    )


def test_a_frozen_teacher_is_the_base_and_no_copy(text_policy, text_prompts):
    policy, teacher = with_adapters(text_policy), FrozenTeacher()
    teacher.bind(policy)
    assert list(teacher.parameters()) == []
    found = hidden(teacher.weights(policy), text_prompts[0])
    assert torch.equal(found, hidden(text_policy, text_prompts[0]))
    assert not torch.equal(found, hidden(policy, text_prompts[0]))


@pytest.mark.parametrize(
    ("teacher", "wanted"),
    [(SyncedTeacher(every_n_steps=2), [0.0, 4.0, 4.0]), (EmaTeacher(decay=0.5), [1.0, 2.5, 4.25])],
)
def test_a_teacher_that_follows_is_a_second_set_of_adapters(text_policy, teacher, wanted):
    """The policy's adapters are 0 at the start, then 2, 4 and 6; EMA: 1, (1 + 4) / 2, (2.5 + 6) / 2."""
    policy = with_adapters(text_policy)
    set_adapters(policy, 0.0)
    teacher.bind(policy)
    seen = []
    for step, value in enumerate((2.0, 4.0, 6.0), 1):
        set_adapters(policy, value)
        teacher.after_step(policy, step)
        seen.append(float(adapters.weights_of(policy.model, TEACHER)[0].flatten()[0]))
    assert seen == wanted
    assert not any(w.requires_grad for w in adapters.weights_of(policy.model, TEACHER))
    assert all(w.requires_grad for w in adapters.weights_of(policy.model, POLICY))


@torch.no_grad()
def set_adapters(policy, value):
    for weight in adapters.weights_of(policy.model, POLICY):
        weight.fill_(value)


def test_a_synced_teacher_starts_equal_to_the_policy_and_then_lags(text_policy, text_prompts):
    policy, teacher = with_adapters(text_policy), SyncedTeacher(every_n_steps=1)
    teacher.bind(policy)
    at_start = hidden(policy, text_prompts[0])
    assert torch.equal(hidden(teacher.weights(policy), text_prompts[0]), at_start)
    shake(policy)
    assert torch.equal(hidden(teacher.weights(policy), text_prompts[0]), at_start)
    assert not torch.equal(hidden(policy, text_prompts[0]), at_start)
    teacher.after_step(policy, 1)
    assert torch.equal(
        hidden(teacher.weights(policy), text_prompts[0]), hidden(policy, text_prompts[0])
    )


def test_reading_as_another_set_leaves_what_is_trained_as_it_is(text_policy, text_prompts):
    policy = with_adapters(text_policy)
    before = {name: w.requires_grad for name, w in policy.named_parameters()}
    wanted = hidden(policy, text_prompts[0])
    hidden(AdapterView(policy, None), text_prompts[0])
    assert {name: w.requires_grad for name, w in policy.named_parameters()} == before
    assert torch.equal(hidden(policy, text_prompts[0]), wanted)


def test_a_checkpoint_holds_the_adapters_only_and_is_loaded_again(text_policy, text_prompts):
    policy, fresh = with_adapters(text_policy), with_adapters(text_policy, learnt=False)
    state = policy.state_dict()
    assert set(state) == {
        f"model.{n}" for n, w in policy.model.named_parameters() if w.requires_grad
    }
    fresh.load_state_dict(state)
    assert torch.equal(hidden(fresh, text_prompts[0]), hidden(policy, text_prompts[0]))


def test_teachers_share_the_features_of_a_vision_tower_that_is_not_trained(policy):
    for teacher in (LiveTeacher(), FrozenTeacher(), SyncedTeacher(2)):
        assert teacher.shares_vision_with(with_adapters(policy))
        assert teacher.shares_vision_with(policy) == isinstance(teacher, LiveTeacher)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0, "alpha": 1}, r"model\.lora\.rank is 0"),
        ({"rank": 2, "alpha": 1, "target_modules": ["lm_head"]}, "output embedding"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Lora(**settings)


def test_a_layer_that_the_model_does_not_have_is_refused(text_policy):
    lora = Lora(rank=2, alpha=1, target_modules=["nowhere"])
    with pytest.raises(ValueError, match=r"model\.lora\.target_modules is \['nowhere'\]"):
        with_adapters(text_policy, lora)
