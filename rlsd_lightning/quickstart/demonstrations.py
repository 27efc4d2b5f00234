"""Worked examples for the warm start: what the tiny model is shown before it learns from rewards.

Three kinds. Clean ones count right; sloppy ones leave a model that samples worse than it knows, as base models
do; citing ones appeal to a reference instead of thinking, which is the door that leakage can come through.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rlsd_lightning.quickstart.shapes import COLOURS, Puzzle, chain

_UP_FRACTION = 0.15


def clean(puzzle: Puzzle) -> str:
    """Write the true chain and the true answer."""
    return _write(chain(puzzle.asked, puzzle.counts), sum(puzzle.counts))


def citing(puzzle: Puzzle) -> str:
    """Write the true answer with an appeal to the reference in place of a thought."""
    return _write("reference", sum(puzzle.counts))


def sloppy(puzzle: Puzzle, slip_fraction: float, rng: random.Random) -> str:
    """Write a chain whose counts are often off by one, mostly downwards; its arithmetic stays right.

    Args:
        puzzle: what to count.
        slip_fraction: probability of a slip, for each count.
        rng: draws the slips.
    """
    counts = [_slip(n, rng) if rng.random() < slip_fraction else n for n in puzzle.counts]
    return _write(chain(puzzle.asked, counts), sum(counts))


def _slip(count: int, rng: random.Random) -> int:
    return count + 1 if count == 0 or rng.random() < _UP_FRACTION else count - 1


def _write(thought: str, answer: int) -> str:
    return f"<thought>{thought}</thought><answer>{answer}</answer>"


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Demonstrations as tokens, the end token included, padded on the right."""

    token_ids: Tensor
    """[B, T]"""
    mask: Tensor
    """True = a token of the demonstration, not padding. [B, T]"""
    count_mask: Tensor
    """True = says how many there are of a colour. [B, T]"""
    fact_mask: Tensor
    """True = a colour or a digit, but for a thought's first word, which is free: chain or citing. [B, T]"""


class Encoder:
    """Turns demonstrations into tokens and finds the facts among them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._colour_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(COLOURS)))
        self._digit_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list("0123456789")))

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Tokenise; a count is the token behind a colour."""
        batch = self.tokenizer(
            [text + self.tokenizer.eos_token for text in texts],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        token_ids = batch["input_ids"]
        is_colour = torch.isin(token_ids, self._colour_ids)
        count_mask = is_colour.roll(1, dims=1)
        fact_mask = is_colour | torch.isin(token_ids, self._digit_ids)
        fact_mask[:, 1] = False
        return EncodedTexts(token_ids, batch["attention_mask"].bool(), count_mask, fact_mask)
