"""Worked examples for the warm start: what the tiny model is shown before it learns from rewards.

Three kinds. Clean ones read right; sloppy ones leave a model that samples worse than it knows, as base models
do; citing ones appeal to a reference instead of thinking, which is the door that leakage can come through.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rlsd_lightning.quickstart.shapes import COLOURS
from rlsd_lightning.quickstart.task import Puzzle, Solution, true_solution


def clean(puzzle: Puzzle) -> str:
    """Write the true chain and the true answer."""
    return _write(true_solution(puzzle))


def citing(puzzle: Puzzle) -> str:
    """Write the true answer with an appeal to the reference in place of a thought."""
    return _write(Solution("reference", true_solution(puzzle).answer))


def sloppy(puzzle: Puzzle, slip_fraction: float, rng: random.Random) -> str:
    """Write a chain whose readings are often wrong; its arithmetic stays right.

    Args:
        puzzle: what to read.
        slip_fraction: probability of a slip, for each reading.
        rng: draws the slips.
    """
    readings = [
        puzzle.slip(reading, rng) if rng.random() < slip_fraction else reading
        for reading in puzzle.readings
    ]
    return _write(puzzle.solve(readings))


def _write(solution: Solution) -> str:
    return f"<thought>{solution.chain}</thought><answer>{solution.answer}</answer>"


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Demonstrations as tokens, the end token included, padded on the right."""

    token_ids: Tensor
    """[B, T]"""
    mask: Tensor
    """True = a token of the demonstration, not padding. [B, T]"""
    reading_mask: Tensor
    """True = says what was read in the image. [B, T]"""
    fact_mask: Tensor
    """True = a colour or a digit, but for a thought's first word, which is free: chain or citing. [B, T]"""


class Encoder:
    """Turns demonstrations into tokens and finds the facts among them.

    Args:
        tokenizer: of the tiny model: a digit is a token.
        num_readings: how many digits at a thought's beginning are readings.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, num_readings: int) -> None:
        self.tokenizer = tokenizer
        self.num_readings = num_readings
        self._colour_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(COLOURS)))
        self._digit_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list("0123456789")))
        self._thought_end = tokenizer.convert_tokens_to_ids("</thought>")

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Tokenise; readings are the first digits of a thought."""
        batch = self.tokenizer(
            [text + self.tokenizer.eos_token for text in texts],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        token_ids = batch["input_ids"]
        is_digit = torch.isin(token_ids, self._digit_ids)
        in_thought = (token_ids == self._thought_end).cumsum(1) == 0
        reading_mask = is_digit & in_thought & (is_digit.cumsum(1) <= self.num_readings)
        fact_mask = torch.isin(token_ids, self._colour_ids) | is_digit
        fact_mask[:, 1] = False
        return EncodedTexts(token_ids, batch["attention_mask"].bool(), reading_mask, fact_mask)
