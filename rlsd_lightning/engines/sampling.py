"""Draws tokens from logits: temperature, top-k, top-p, presence penalty, banned tokens, and uniforms that belong to a completion.

Every completion has its own stream of uniforms, fixed by (seed, prompt id, place in the group), and a token is the
inverse of the cumulated distribution at its uniform. So a draw does not depend on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rlsd_lightning.types import Sampling


def uniforms(seed: int, prompt_ids: Sequence[str], group_size: int, num_tokens: int) -> Tensor:
    """Return each completion's uniforms in [0, 1), one per token.

    Args:
        seed: of the run and step.
        prompt_ids: one per prompt. [P]
        group_size: G, completions per prompt.
        num_tokens: T, the longest completion.

    Returns:
        float32 [P, G, T]

    Example:
        >>> both = uniforms(7, ["a", "b"], group_size=2, num_tokens=3)
        >>> torch.equal(both[1], uniforms(7, ["b"], group_size=2, num_tokens=3)[0])
        True
    """
    draws = [
        [
            _stream(seed, prompt_id, place).random(num_tokens, dtype=np.float32)
            for place in range(group_size)
        ]
        for prompt_id in prompt_ids
    ]
    return torch.from_numpy(
        np.array(draws, dtype=np.float32).reshape(len(prompt_ids), group_size, num_tokens)
    )


def _stream(seed: int, prompt_id: str, place: int) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}/{place}/{prompt_id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def draw(
    logits: Tensor,
    uniform: Tensor,
    sampling: Sampling,
    banned: Tensor | None,
    written: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw one token per row.

    Args:
        logits: float32 [N, V]
        uniform: in [0, 1), one per row. [N]
        sampling: temperature (0 takes the most likely token), top_k, top_p, presence_penalty.
        banned: ids that are never drawn. int64 [num_banned]
        written: True = the row's completion holds the token already; needed for a presence_penalty. bool [N, V]

    Returns:
        Token ids [N], and their log-probabilities under the whole distribution at the temperature (1 when greedy):
        what training computes for the same tokens, whatever top-k, top-p, penalty and bans took away. [N]
    """
    scaled = logits / (sampling.temperature or 1.0)
    logprobs = torch.log_softmax(scaled, dim=-1)
    liked = logprobs
    if written is not None:
        liked = logprobs - written * (sampling.presence_penalty / (sampling.temperature or 1.0))
    allowed = liked if banned is None else liked.index_fill(-1, banned, -torch.inf)
    tokens = (
        allowed.argmax(-1) if sampling.temperature == 0 else _invert(allowed, uniform, sampling)
    )
    return tokens, logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _invert(logprobs: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Return the first token at which the cumulated, truncated distribution exceeds its uniform. [N]."""
    # Relative to the likeliest allowed token: bans may have taken nearly all of the mass.
    likeliest = logprobs.amax(-1, keepdim=True)
    probabilities = truncate((logprobs - likeliest).exp(), sampling.top_k, sampling.top_p)
    # In float64: a parallel sum in float32 may step up at a token of probability 0, which could then be drawn.
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    target = uniform.to(cumulated).unsqueeze(-1) * cumulated[:, -1:]
    found = torch.searchsorted(cumulated, target, right=True).squeeze(-1)
    return found.clamp(max=logprobs.shape[-1] - 1)  # of NaNs none exceeds it; their log-prob tells


def truncate(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set to 0 what top-k and top-p leave out; top-p is applied to what top-k has left, renormalised.

    Args:
        probabilities: [N, V]
        top_k: keep this many; 0 keeps all.
        top_p: keep the smallest set with at least this share; 1 keeps all.

    Example:
        >>> truncate(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), top_k=3, top_p=0.7)
        tensor([[0.0000, 0.0000, 0.3000, 0.4000]])
    """
    if 0 < top_k < probabilities.shape[-1]:
        floor = probabilities.topk(top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < floor, 0.0)
    if top_p < 1.0:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        mass_before = ordered.cumsum(-1) - ordered
        dropped = mass_before >= top_p * ordered.sum(-1, keepdim=True)
        probabilities = probabilities.masked_fill(dropped.scatter(-1, order, dropped), 0.0)
    return probabilities
