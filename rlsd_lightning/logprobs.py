"""Log-probabilities of given tokens, straight from hidden states, without the [N, V] logits.

log p(y) = logit_y / T - logsumexp(logits / T), where the logits are made, used and forgotten block by block:
the sum is carried online (Milakov and Gimelshein, arXiv:1805.02867) and the backward pass makes each block
anew. Peak memory is one block plus the gradients. One function for student and teacher, so that both
divide by the same temperature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlsd_lightning.logit_blocks import (
    autocasts,
    logit_blocks,
    matmul_dtype,
    wide_dtype,
    write_product,
)


def token_logprobs(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float = 1.0
) -> Tensor:
    """Score each token by the hidden state that predicts it.

    Args:
        hidden: last hidden states, one per token. [N, H]
        weight: the output embedding. [V, H]
        token_ids: the tokens to score, each in [0, V). int64 [N]
        temperature: divides the logits; above 0.

    Returns:
        log p of each token, in float32 (float64 where the inputs are). [N]

    Raises:
        ValueError: if shapes or dtypes do not fit, an id is no token, or temperature is not above 0.

    Example:
        >>> token_logprobs(torch.zeros(1, 3), torch.ones(4, 3), torch.tensor([2])).exp()
        tensor([0.2500])
    """
    return _score(hidden, weight, token_ids, temperature, with_entropy=False)[0]


def token_logprobs_and_entropy(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Score each token and measure how open its choice was, in one pass.

    Args:
        hidden: as in token_logprobs. [N, H]
        weight: as in token_logprobs. [V, H]
        token_ids: as in token_logprobs. int64 [N]
        temperature: as in token_logprobs.

    Returns:
        log p of each token [N], and the entropy of the distribution it was drawn from, in nats and without
        gradient [N].

    Example:
        >>> ids = torch.tensor([2])
        >>> token_logprobs_and_entropy(torch.zeros(1, 3), torch.ones(4, 3), ids)[1].exp()
        tensor([4.])
    """
    return _score(hidden, weight, token_ids, temperature, with_entropy=True)


def _score(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float, *, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    _check(hidden, weight, token_ids, temperature)
    dtype = matmul_dtype(hidden)
    return _TokenLogprobs.apply(hidden, weight, token_ids, temperature, dtype, with_entropy)


class _TokenLogprobs(torch.autograd.Function):
    """d log p(y) / d logits = (onehot(y) - softmax(logits / T)) / T, one block at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        token_ids: Tensor,
        temperature: float,
        dtype: torch.dtype,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        softmax = _OnlineSoftmax(len(hidden), wide_dtype(dtype), hidden.device, with_entropy)
        chosen = torch.zeros_like(softmax.total)
        for rows, columns, _, logits in logit_blocks(hidden.to(dtype), weight, temperature):
            place, inside = _locate(token_ids[rows], columns)
            found = logits.gather(1, place[:, None]).squeeze(1)
            chosen[rows] = torch.where(inside, found, chosen[rows])
            softmax.update(rows, logits)
        logsumexp, entropy = softmax.finish()
        ctx.mark_non_differentiable(entropy)
        ctx.save_for_backward(hidden, weight, token_ids, logsumexp)
        ctx.temperature, ctx.dtype = temperature, dtype
        return chosen - logsumexp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, token_ids, logsumexp = ctx.saved_tensors
        # A token with gradient 0 (clipped, advantage 0) is left out rather than multiplied by 0.
        kept = grad.nonzero().squeeze(1)
        grad_kept, grad_weight = _gradients(
            hidden[kept].to(ctx.dtype),
            weight,
            token_ids[kept],
            logsumexp[kept],
            grad[kept],
            ctx.temperature,
            ctx.needs_input_grad,
        )
        grad_hidden = None
        if grad_kept is not None:
            grad_hidden = torch.zeros_like(hidden)
            grad_hidden[kept] = grad_kept.to(hidden.dtype)
        return grad_hidden, grad_weight, None, None, None, None


def _gradients(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    logsumexp: Tensor,
    grad: Tensor,
    temperature: float,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None]:
    """Carry the gradient of the log-probs [N] to hidden [N, H] and weight [V, H], each where needed."""
    grad_hidden = torch.zeros_like(hidden, dtype=wide_dtype(hidden.dtype)) if needed[0] else None
    grad_weight = torch.empty_like(weight) if needed[1] else None
    if grad_weight is not None and not len(hidden):
        grad_weight.zero_()
    grad = grad / temperature
    for rows, columns, block, logits in logit_blocks(hidden, weight, temperature):
        place, inside = _locate(token_ids[rows], columns)
        grad_logits = logits.sub_(logsumexp[rows, None]).exp_().mul_(-grad[rows, None])
        grad_logits.scatter_add_(1, place[:, None], torch.where(inside, grad[rows], 0)[:, None])
        grad_logits = grad_logits.to(hidden.dtype)
        if grad_hidden is not None:
            write_product(grad_hidden[rows], grad_logits, block, add=True)
        if grad_weight is not None:
            write_product(grad_weight[columns], grad_logits.T, hidden[rows], add=rows.start > 0)
    return grad_hidden, grad_weight


class _OnlineSoftmax:
    """Running log-sum-exp of rows whose logits come in blocks, and on demand their entropy."""

    def __init__(
        self, num_rows: int, dtype: torch.dtype, device: torch.device, with_entropy: bool
    ) -> None:
        # The lowest finite number, not -inf: -inf - -inf would be NaN in the first shift.
        self.maximum = torch.full((num_rows,), torch.finfo(dtype).min, dtype=dtype, device=device)
        self.total = torch.zeros_like(self.maximum)
        self.moment = torch.zeros_like(self.maximum) if with_entropy else None

    def update(self, rows: slice, logits: Tensor) -> None:
        """Take in one block of logits [rows, columns], overwriting it."""
        maximum = torch.maximum(self.maximum[rows], logits.amax(1))
        shift = self.maximum[rows] - maximum
        shrink, logits = shift.exp(), logits.sub_(maximum[:, None])
        if self.moment is None:
            self.total[rows] = self.total[rows] * shrink + logits.exp_().sum(1)
        else:
            # moment = sum of e^(logit - maximum) * (logit - maximum): entropy = log total - moment / total.
            old = (self.moment[rows] + shift * self.total[rows]) * shrink
            weights = logits.exp()
            self.total[rows] = self.total[rows] * shrink + weights.sum(1)
            self.moment[rows] = old + weights.mul_(logits).sum(1)
        self.maximum[rows] = maximum

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the log-sum-exp [N] and the entropy, which is empty if not asked for [N]."""
        log_total = self.total.log()
        if self.moment is None:
            return self.maximum + log_total, self.total.new_empty(0)
        return self.maximum + log_total, log_total - self.moment / self.total


def _locate(token_ids: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Return where in this block each token's logit is [N], clamped, and whether it is there at all [N]."""
    place = token_ids - columns.start
    clamped = place.clamp(0, columns.stop - columns.start - 1)
    return clamped, place == clamped


def _check(hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(
            f"token_logprobs: temperature is {temperature}, needs a number above 0. Greedy sampling has no "
            "log-probabilities to train on: sample with temperature 1.0."
        )
    shapes = tuple(hidden.shape), tuple(weight.shape), tuple(token_ids.shape)
    fits = hidden.dim() == weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
    if not fits or token_ids.shape != hidden.shape[:1]:
        raise ValueError(
            f"token_logprobs: hidden, weight and token_ids have the shapes {shapes}, need [N, H], [V, H] and "
            "[N]. Flatten completions to one row of hidden per token."
        )
    if hidden.dtype != weight.dtype and not autocasts(hidden):
        raise ValueError(
            f"token_logprobs: hidden is {hidden.dtype} and weight is {weight.dtype}, which need one dtype. Cast "
            "one of them, or call under torch.autocast."
        )
    if len(token_ids) and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < len(weight):
        raise ValueError(
            f"token_logprobs: token_ids lie in [{int(token_ids.min())}, {int(token_ids.max())}], need values in "
            f"[0, {len(weight)}). Check that tokenizer and model belong together."
        )
