"""What the teacher says of a micro-batch, against one plain transformers forward per completion."""

from dataclasses import replace

import pytest
import torch

from rlsd_lightning.data.collate import collate
from rlsd_lightning.evidence import ask_teacher, divergence_from_teacher
from rlsd_lightning.types import CreditNeeds, Divergence
from tests.helpers.rollouts import rollout

TEMPERATURE = 0.8
LENGTHS = [[3, 6], [5, 2], [4, 1]]
ADVANTAGES = [[0.7, 0.0], [-1.0, 1.0], [0.0, 0.0]]


@pytest.fixture
def groups(prompts, teacher_prompts, random_tokens):
    """Return a function that makes three groups of two, images and all; `changes` go to every rollout.

    With a contrast, the student's prompt serves as one: another prompt with the same images.
    """

    def make(with_contrast=False, **changes):
        return [
            [
                replace(
                    rollout(prompts[i], tokens, advantage, teacher_prompts[i]),
                    contrast=prompts[i] if with_contrast else None,
                    **changes,
                )
                for tokens, advantage in zip(
                    random_tokens(LENGTHS[i], seed=i), ADVANTAGES[i], strict=True
                )
            ]
            for i in range(3)
        ]

    return make


def lay_out(groups):
    return collate(groups, policy_version=0, num_step_tokens=21, num_step_completions=6, metrics={})


def ask(policy, batch, policy_logprobs, **needs):
    features = policy.encode_images(batch.images)
    return ask_teacher(policy, CreditNeeds(**needs), batch, policy_logprobs, features, TEMPERATURE)


def test_only_completions_with_an_advantage_are_scored_and_the_rest_keep_the_policys_numbers(
    policy, groups, plain_logprobs
):
    batch = lay_out(groups())
    own = -torch.rand(batch.token_ids.shape)
    evidence = ask(policy, batch, own)
    for row, one in enumerate(batch.rollouts):
        length = len(one.completion.token_ids)
        wanted = own[row, :length]
        if one.advantage:
            wanted = plain_logprobs(policy, one.teacher, one.completion.token_ids, TEMPERATURE)
        torch.testing.assert_close(evidence.logprobs[row, :length], wanted, atol=1e-5, rtol=0)
    assert evidence.contrast_logprobs is None


def test_a_method_that_wants_every_completion_gets_every_completion(policy, groups, plain_logprobs):
    batch = lay_out(groups(every_completion=True))
    assert batch.teacher_index.tolist() == list(range(6))
    evidence = ask(policy, batch, torch.zeros(batch.token_ids.shape), every_completion=True)
    for row, one in enumerate(batch.rollouts):
        wanted = plain_logprobs(policy, one.teacher, one.completion.token_ids, TEMPERATURE)
        found = evidence.logprobs[row, : len(wanted)]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_completion_outside_the_loss_is_not_scored(groups):
    batch = lay_out(groups(every_completion=True, masked=True))
    assert batch.teacher is None
    assert not batch.completion_mask.any()


def test_the_contrast_scores_the_same_tokens_behind_its_own_prompt(policy, groups, plain_logprobs):
    batch = lay_out(groups(with_contrast=True, every_completion=True))
    evidence = ask(policy, batch, torch.zeros(batch.token_ids.shape), contrast=True)
    for row, one in enumerate(batch.rollouts):
        wanted = plain_logprobs(policy, one.contrast, one.completion.token_ids, TEMPERATURE)
        found = evidence.contrast_logprobs[row, : len(wanted)]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_where_no_completion_is_scored_the_contrast_is_no_evidence_either(policy, groups):
    batch = lay_out([groups(with_contrast=True)[2]])
    own = -torch.rand(batch.token_ids.shape)
    evidence = ask(policy, batch, own, contrast=True)
    assert evidence.logprobs is own
    assert evidence.contrast_logprobs is own


def full_logprobs(policy, prompt, token_ids):
    """All log-probs that predict a completion's tokens, by one plain forward. [T, V]."""
    ids = torch.tensor([prompt.token_ids + token_ids])
    images = {
        "pixel_values": torch.cat([image.pixel_values for image in prompt.images]),
        "image_grid_thw": torch.tensor([image.grid for image in prompt.images]),
        "mm_token_type_ids": (ids == policy.family.image_token_id).int(),
    }
    logits = policy.model(input_ids=ids, use_cache=False, **(images if prompt.images else {}))
    before = logits.logits[0, len(prompt.token_ids) - 1 : -1] / TEMPERATURE
    return before.log_softmax(-1)


def test_the_divergence_is_that_of_the_two_views_at_every_scored_token_and_0_elsewhere(
    policy, groups
):
    batch = lay_out(groups())
    features = policy.encode_images(batch.images)
    states = policy.predictors(batch.student, batch.completion_mask, features)
    evidence = ask(policy, batch, torch.zeros(batch.token_ids.shape))
    values, scored = divergence_from_teacher(
        Divergence(kind="forward_kl"),
        batch,
        policy,
        states,
        policy,
        evidence.states,
        TEMPERATURE,
    )
    assert values.requires_grad
    for row, one in enumerate(batch.rollouts):
        length = len(one.completion.token_ids)
        assert scored[row].sum() == (length if one.advantage else 0)
        if one.advantage:
            views = (one.teacher, one.student)
            teacher, student = (
                full_logprobs(policy, view, one.completion.token_ids) for view in views
            )
            wanted = (teacher.exp() * (teacher - student)).sum(-1)
            torch.testing.assert_close(values[row, :length], wanted, atol=1e-5, rtol=0)
    assert not values[~scored].any()


def test_without_a_scored_token_the_divergence_is_0_everywhere(policy, groups):
    batch = lay_out([groups()[2]])
    states = policy.predictors(
        batch.student, batch.completion_mask, policy.encode_images(batch.images)
    )
    values, scored = divergence_from_teacher(
        Divergence(), batch, policy, states, policy, None, TEMPERATURE
    )
    assert not values.any()
    assert not scored.any()
