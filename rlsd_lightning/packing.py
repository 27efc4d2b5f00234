"""Packs prompts and completions into rows in which a prompt stands once, its completions as branches of it.

    row:     x x x x | a a a | b b | c c c c      prompt x, completions a, b, c
    sees:    x         x a     x b   x c           each token: the prompt and its own branch, never a sibling

With G = 8 and a prompt full of image tokens, this is most of the work of scoring and training. One branch per row
is the plain way of doing it; log-probs and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlsd_lightning.types import ImageBatch, PackedRows, ProcessedImage, Prompt

PADDING = -1

Branches = tuple[Prompt, Sequence[Sequence[int]]]
"""A prompt and the token ids of its completions: one row."""


def image_batch(images: Sequence[ProcessedImage]) -> ImageBatch | None:
    """Concatenate the patches of images; None without images."""
    if not images:
        return None
    return ImageBatch(
        pixel_values=torch.cat([image.pixel_values for image in images]),
        grids=torch.tensor([image.grid for image in images]),
    )


def pack_rows(units: Sequence[Branches], image_slots: Mapping[str, int]) -> PackedRows:
    """Lay prompts and their completions out as rows.

    Args:
        units: one per row.
        image_slots: place of each image, by its key, in the micro-batch's ImageBatch.

    Returns:
        Rows whose predictor_index follows the completions in the order of `units`, T padded to the longest.
    """
    layouts = [_row(prompt, completions) for prompt, completions in units]
    input_ids = pad_sequence([row[0] for row in layouts], batch_first=True)
    width = input_ids.shape[1]
    predictors = [
        index + row * width for row, (_, _, _, indices) in enumerate(layouts) for index in indices
    ]
    return PackedRows(
        input_ids=input_ids,
        position_ids=pad_sequence([row[1].T for row in layouts], batch_first=True).permute(2, 0, 1),
        branch_ids=pad_sequence(
            [row[2] for row in layouts], batch_first=True, padding_value=PADDING
        ),
        predictor_index=pad_sequence(predictors, batch_first=True)
        if predictors
        else torch.zeros(0, 0, dtype=torch.int64),
        image_index=tuple(image_slots[image.key] for prompt, _ in units for image in prompt.images),
    )


def _row(
    prompt: Prompt, completions: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Return one row's tokens [S], positions [A, S], branch ids [S] and, per completion, predictor places [T]."""
    tokens, positions = list(prompt.token_ids), [prompt.position_ids]
    branches, predictors = [0] * len(tokens), []
    last_of_prompt = len(tokens) - 1
    for branch, completion in enumerate(completions, start=1):
        first, length = len(tokens), len(completion)
        # The prompt's last token predicts the first token of every branch; then each token predicts the next.
        places = torch.arange(first - 1, first - 1 + length)
        places[:1] = last_of_prompt
        predictors.append(places)
        continued = torch.arange(prompt.next_position, prompt.next_position + length)
        positions.append(continued.expand(prompt.position_ids.shape[0], -1))
        tokens.extend(completion)
        branches.extend([branch] * length)
    return (
        torch.tensor(tokens),
        torch.cat(positions, dim=1),
        torch.tensor(branches),
        predictors,
    )


def visibility(branch_ids: Tensor) -> Tensor:
    """Say which token sees which: the prompt and its own branch, up to itself.

    Padding is a branch of its own, seen by nothing else; that it sees anything at all keeps NaN out of its rows.

    Args:
        branch_ids: int64 [R, S]

    Returns:
        True where the query (third axis) sees the key (fourth axis). bool [R, 1, S, S]

    Example:
        >>> visibility(torch.tensor([[0, 0, 1, 2, 2]]))[0, 0].int()
        tensor([[1, 0, 0, 0, 0],
                [1, 1, 0, 0, 0],
                [1, 1, 1, 0, 0],
                [1, 1, 0, 1, 0],
                [1, 1, 0, 1, 1]], dtype=torch.int32)
    """
    query, key = branch_ids.unsqueeze(2), branch_ids.unsqueeze(1)
    length = branch_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch_ids.device).tril()
    return (((key == 0) | (key == query)) & causal).unsqueeze(1)


def attention_mask(rows: PackedRows, implementation: str, dtype: torch.dtype) -> Tensor:
    """Return the mask that transformers' attention wants for these rows.

    Args:
        rows: the packed rows.
        implementation: the model's attention: "sdpa" takes bool masks, "eager" adds its mask to the scores.
        dtype: of the scores, for "eager".

    Returns:
        Padding mask [R, S] where every row has one branch at the most (plain causal attention, the fastest
        kernels), else [R, 1, S, S].
    """
    if int(rows.branch_ids.max()) <= 1:
        return rows.branch_ids != PADDING
    seen = visibility(rows.branch_ids)
    return additive(seen, dtype) if implementation == "eager" else seen


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn True into 0 and False into the most negative number of `dtype`."""
    hidden = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, hidden)
