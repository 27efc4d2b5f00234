"""Scores given completions behind given prompts, outside of training: how likely would they be if x were this?

The layout is that of training (packing.py): a prompt stands once in a row, its completions are branches of it, and
each unique image goes through the vision tower once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlsd_lightning.models import Policy
from rlsd_lightning.packing import Branches, image_batch, pack_rows


@torch.no_grad()
def rescore(model: Policy, groups: Sequence[Branches], temperature: float) -> list[list[Tensor]]:
    """Return the log-probabilities of completions, each behind its group's prompt, without gradient.

    One forward pass: hand over as many groups as fit into memory. Under a strategy that shards the weights the
    forward pass is collective, so every rank must call this equally often.

    Args:
        model: the policy or a teacher, on any device.
        groups: prompts with the token ids of their completions; at least one group.
        temperature: divides the logits, above 0; that of the sampling, to compare with its log-probs.

    Returns:
        log p of each token, per completion of each group, on the model's device. [groups][completions][T]

    Raises:
        ValueError: if there are no groups.
    """
    if not groups:
        raise ValueError("rescore: groups is empty, needs at least one prompt. Skip the call.")
    images = {image.key: image for prompt, _ in groups for image in prompt.images}
    slots = {key: place for place, key in enumerate(images)}
    completions = [torch.tensor(c, dtype=torch.int64) for _, group in groups for c in group]
    if not completions:
        return [[] for _ in groups]
    lengths = [len(completion) for completion in completions]
    token_ids = pad_sequence(completions, batch_first=True)
    mask = torch.arange(token_ids.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    batch = image_batch(list(images.values()))
    scores = model.logprobs(
        pack_rows(groups, slots).to(model.device),
        token_ids.to(model.device),
        mask.to(model.device),
        model.encode_images(None if batch is None else batch.to(model.device)),
        temperature,
    )
    flat = iter([row[:length] for row, length in zip(scores, lengths, strict=True)])
    return [[next(flat) for _ in group] for _, group in groups]
