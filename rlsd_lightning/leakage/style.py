"""Credit spent on tokens that carry no content: punctuation, connectives, tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from rlsd_lightning.metrics import Mean
from rlsd_lightning.records import Decode, TokenRecord, token_pieces


def compile_style(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    """Return the compiled patterns.

    Raises:
        ValueError: if one is no regular expression.
    """
    try:
        return [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f"callbacks.leakage_probe.style_patterns has {error.pattern!r}, which is no regular expression ({error}). "
            "Needed: one that Python's re takes. Correct it."
        ) from error


def style_mask(pieces: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> list[bool]:
    r"""Say which tokens are style: white space alone, or wholly inside what a pattern finds.

    Patterns are looked for in the whole text, so that a tag is found however the tokeniser cuts it.

    Args:
        pieces: the tokens' texts, which join to the completion's text; a piece may be empty. [T]
        patterns: from compile_style.

    Returns:
        True = a style token. [T]

    Example:
        >>> tags = compile_style([r"</?\w+>", r"\bso\b"])
        >>> style_mask(["<", "answer", ">", "So", " it", " is", " 5", "</answer", ">\n"], tags)
        [True, True, True, True, False, False, False, True, True]
    """
    text = "".join(pieces)
    styled = bytearray(character.isspace() for character in text)
    for pattern in patterns:
        for match in pattern.finditer(text):
            styled[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    mask, start = [], 0
    for piece in pieces:
        end = start + len(piece)
        mask.append(bool(piece) and 0 not in styled[start:end])
        start = end
    return mask


def style_means(
    records: Sequence[TokenRecord], patterns: Sequence[re.Pattern[str]], decode: Decode
) -> dict[str, Mean]:
    """Return the share of style tokens in the absolute credit, and in the number of tokens.

    Both are over the completions that have any credit: beside each other they say whether style gets more than its
    share. Nothing where no completion has credit.

    Args:
        records: the micro-batches of a step.
        patterns: from compile_style.
        decode: the tokenizer's, special tokens included.
    """
    credit_of_style = credit_of_all = 0.0
    num_style = num_all = 0
    for record in records:
        for index, rollout in enumerate(record.rollouts):
            counted = record.completion_mask[index].cpu()
            credit = record.credit[index].cpu()[counted].abs().double()
            if not credit.any():
                continue
            token_ids = rollout.completion.token_ids
            mask = torch.tensor(style_mask(token_pieces(decode, token_ids), patterns))
            is_style = mask[counted[: len(token_ids)]]
            credit_of_style += float(credit[is_style].sum())
            credit_of_all += float(credit.sum())
            num_style += int(is_style.sum())
            num_all += len(is_style)
    if not num_all:
        return {}
    return {
        "style_credit_fraction": Mean(credit_of_style, credit_of_all),
        "style_token_fraction": Mean(num_style, num_all),
    }
