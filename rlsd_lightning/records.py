"""What a training step leaves behind for people: one row per completion, down to its tokens.

`TokenRecord` is what the module hands to callbacks after each micro-batch; the functions turn it into plain
rows that JSON can hold. Nothing here touches the training.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from rlsd_lightning.types import Rollout

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens included."""

DECIMALS = 5
"""Places kept of every number in a row: a thousandth of a percent of a probability."""


def decoder(tokenizer: PreTrainedTokenizerBase) -> Decode:
    """Return the tokenizer's decoding: special tokens shown, no space tidied away.

    It remembers single tokens, as most come often.
    """
    plain: Callable[..., str] = functools.partial(
        tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    alone = functools.cache(lambda token_id: plain([token_id]))
    return lambda token_ids: alone(token_ids[0]) if len(token_ids) == 1 else plain(token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """One micro-batch as the loss saw it; tensors detached, on any device."""

    rollouts: tuple[Rollout, ...]
    """In the order of axis B."""
    completion_mask: Tensor
    """True = the token counts in the loss. bool [B, T]"""
    policy_logprobs: Tensor
    """log P_S of the completion tokens. [B, T]"""
    teacher_logprobs: Tensor | None
    """log P_T of the same tokens, anything at completions with advantage 0; None where skipped. [B, T]"""
    credit: Tensor
    """Per-token advantages A_t. [B, T]"""
    step: int
    """The optimizer step being computed, counted from 1."""
    clipped: Tensor | None = None
    """True = a clip held the token's weight back; None for a method without. bool [B, T]"""


def completion_row(
    rollout: Rollout, *, step: int, lambda_: float | None, images: list[str]
) -> dict[str, Any]:
    """Describe one completion in plain values, without its tokens.

    Args:
        rollout: the completion with its problem and verdict.
        step: the optimizer step it was used in, from 1.
        lambda_: how much the evidence counted in that step; None for a method that knows no lambda.
        images: where the problem's images can be found again.
    """
    problem, completion, verdict = rollout.problem, rollout.completion, rollout.verdict
    return {
        "step": step,
        "problem_id": problem.id,
        "location": problem.location,
        "kind": problem.kind,
        "prompt": problem.prompt,
        "images": images,
        "answer": problem.answer,
        "reference": problem.reference,
        "response": completion.text,
        "num_tokens": len(completion.token_ids),
        "finish_reason": completion.finish_reason,
        "reward": _plain(verdict.reward),
        "correct": verdict.correct,
        "valid": verdict.valid,
        "parts": {name: _plain(value) for name, value in verdict.parts.items()},
        "reason": verdict.reason,
        "advantage": _plain(rollout.advantage),
        "lambda": None if lambda_ is None else _plain(lambda_),
    }


def token_columns(record: TokenRecord, index: int, decode: Decode) -> dict[str, Any]:
    """List what is known of each token of one completion.

    Numbers are None where there is none: outside the loss, and for the teacher where it was not asked
    (no teacher forward, or advantage 0, which no evidence can change).

    Args:
        record: the micro-batch.
        index: the completion's place on axis B.
        decode: the tokenizer's.

    Returns:
        Lists as long as the completion: tokens, token_ids, policy_logprobs, teacher_logprobs, gain, weight
        (credit divided by the advantage), credit and, of a method with a clip, clipped.
    """
    rollout = record.rollouts[index]
    token_ids = list(rollout.completion.token_ids)
    counted = record.completion_mask[index, : len(token_ids)].tolist()

    def column(values: Tensor | None) -> list[float | None]:
        if values is None:
            return [None] * len(token_ids)
        numbers = values[index, : len(token_ids)].double().tolist()
        return [_plain(x) if counts else None for x, counts in zip(numbers, counted, strict=True)]

    scored = rollout.scored
    teacher = record.teacher_logprobs
    columns = {
        "tokens": token_pieces(decode, token_ids),
        "token_ids": token_ids,
        "policy_logprobs": column(record.policy_logprobs),
        "teacher_logprobs": column(teacher if scored else None),
        "gain": column(
            teacher - record.policy_logprobs if scored and teacher is not None else None
        ),
        "weight": column(record.credit.double() / rollout.advantage if rollout.advantage else None),
        "credit": column(record.credit),
    }
    if record.clipped is not None:
        held = record.clipped[index, : len(token_ids)].tolist()
        columns["clipped"] = [bool(x) and counts for x, counts in zip(held, counted, strict=True)]
    return columns


def token_pieces(decode: Decode, token_ids: Sequence[int]) -> list[str]:
    r"""Cut the decoded text into one piece per token, so that the pieces join to the text.

    A token that ends inside a character (bytes of UTF-8) gets an empty piece, and the token that completes the
    character gets the whole of it. Tokenizers that drop a leading space when a token stands alone are served too.

    Args:
        decode: the tokenizer's.
        token_ids: the completion. [T]

    Returns:
        Pieces of text. [T]

    Example:
        >>> raw = "3 \u00d7 4".encode()
        >>> token_pieces(lambda ids: bytes(ids).decode(errors="replace"), list(raw))
        ['3', ' ', '', '\xd7', ' ', '4']
    """
    alone = [decode([token_id]) for token_id in token_ids]
    if "".join(alone) == decode(token_ids):
        return alone
    return _pieces_in_context(decode, token_ids)


def _pieces_in_context(decode: Decode, token_ids: Sequence[int]) -> list[str]:
    """Decode a sliding window that starts at the last but one whole character."""
    pieces: list[str] = []
    start, shown = 0, 0
    for end in range(1, len(token_ids) + 1):
        before, after = decode(token_ids[start:shown]), decode(token_ids[start:end])
        whole = not after.endswith("\ufffd") or end == len(token_ids)
        pieces.append(after[len(before) :] if whole else "")
        if whole:
            start, shown = shown, end
    return pieces


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a run that is killed here, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _plain(value: float) -> float | None:
    """A rounded float, or None for what JSON cannot hold (infinities and NaN)."""
    number = float(value)
    return round(number, DECIMALS) if math.isfinite(number) else None
