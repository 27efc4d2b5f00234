"""Rescoring gives the log-probs of one plain forward per completion, whatever shares a row or a batch."""

import pytest
import torch

from rlsd_lightning.rescoring import rescore

LENGTHS = [[3, 7, 1], [4, 4], [6], []]


@pytest.fixture
def groups(teacher_prompts, random_tokens):
    return [
        (prompt, random_tokens(lengths, seed=i))
        for i, (prompt, lengths) in enumerate(zip(teacher_prompts, LENGTHS, strict=True))
    ]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_each_completion_has_the_logprobs_of_a_row_of_its_own(
    policy, groups, plain_logprobs, temperature
):
    found = rescore(policy, groups, temperature)
    assert [[len(scores) for scores in group] for group in found] == LENGTHS
    for (prompt, completions), group in zip(groups, found, strict=True):
        for completion, scores in zip(completions, group, strict=True):
            wanted = plain_logprobs(policy, prompt, completion, temperature)
            torch.testing.assert_close(scores, wanted, atol=1e-5, rtol=0)


def test_a_text_model_is_served_too(text_policy, text_prompts, random_tokens, plain_logprobs):
    groups = [(prompt, random_tokens([5, 2])) for prompt in text_prompts]
    for (prompt, completions), group in zip(groups, rescore(text_policy, groups, 1.0), strict=True):
        for completion, scores in zip(completions, group, strict=True):
            wanted = plain_logprobs(text_policy, prompt, completion)
            torch.testing.assert_close(scores, wanted, atol=1e-5, rtol=0)


def test_one_completion_behind_several_prompts_is_scored_behind_each(
    policy, prompts, teacher_prompts, random_tokens, plain_logprobs
):
    (completion,) = random_tokens([6])
    views = [prompts[0], teacher_prompts[0]]
    found = rescore(policy, [(view, [completion]) for view in views], 1.0)
    for view, (scores,) in zip(views, found, strict=True):
        torch.testing.assert_close(
            scores, plain_logprobs(policy, view, completion), atol=1e-5, rtol=0
        )
    assert (found[0][0] - found[1][0]).abs().max() > 1e-3


def test_each_image_is_encoded_once(policy, prompts, random_tokens, monkeypatch):
    seen = []
    encode = type(policy).encode_images
    monkeypatch.setattr(
        type(policy),
        "encode_images",
        lambda self, images: seen.append(len(images.grids)) or encode(self, images),
    )
    rescore(policy, [(prompt, random_tokens([2])) for prompt in prompts], 1.0)
    assert seen == [3]  # "square" stands in two prompts


def test_no_gradient_is_kept(policy, groups):
    policy.train()
    assert not any(
        scores.requires_grad for group in rescore(policy, groups, 1.0) for scores in group
    )


def test_prompts_without_completions_have_no_scores(policy, prompts):
    assert rescore(policy, [(prompts[0], []), (prompts[2], [])], 1.0) == [[], []]


def test_no_groups_at_all_are_refused(policy):
    with pytest.raises(ValueError, match="groups is empty"):
        rescore(policy, [], 1.0)
