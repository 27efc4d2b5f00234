"""Rollouts made by hand."""

import torch

from rlsd_lightning.types import Completion, Problem, Prompt, Rollout, Verdict


def rollout(student, token_ids, advantage=0.0, teacher=None, valid=True):
    """One completion; its log-probs at sampling are -0.1, -0.2, ..."""
    return Rollout(
        problem=Problem(student.id, f"question {student.id}"),
        student=student,
        teacher=teacher,
        completion=Completion(
            token_ids=token_ids,
            logprobs=[-0.1 * place for place in range(1, len(token_ids) + 1)],
            text=" ".join(map(str, token_ids)),
            finish_reason="stop",
        ),
        verdict=Verdict(reward=advantage, correct=advantage > 0, valid=valid),
        advantage=advantage,
    )


def text_prompt(prompt_id, num_tokens):
    """A prompt without images: tokens 1, 2, 3, ..."""
    return Prompt(
        id=prompt_id,
        token_ids=list(range(1, num_tokens + 1)),
        position_ids=torch.arange(num_tokens).unsqueeze(0),
    )


def sized_group(prompt_id, num_prompt_tokens, lengths):
    """A group of completions of given lengths."""
    prompt = text_prompt(prompt_id, num_prompt_tokens)
    return [rollout(prompt, [7 + place] * length) for place, length in enumerate(lengths)]
