"""One scored response, in a form that travels between ranks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a scorer says of one response; a pure function of problem and text."""

    correct: bool
    prediction: str | None = None
    """What the scorer read as the answer, in the form that it compared; None where it read none."""
    note: str = ""
    """How it came about, where that matters: "fallback", "judge"."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What aggregation needs of the problem besides `correct`, as JSON can hold it: subject, level, key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One scored response of one question, without its text."""

    id: str
    """The problem's."""
    number: int
    """Which of the question's responses, counted from 0."""
    extract: str
    """The extraction step that stood in front of the scorer."""
    correct: bool
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes two samples one and the same."""
        return self.extract, self.id, self.number


def encode(samples: Iterable[Sample]) -> Tensor:
    """Write samples as JSON lines, one byte per element, which ranks can gather: uint8 [N]."""
    lines = "".join(json.dumps(dataclasses.asdict(sample)) + "\n" for sample in samples)
    return torch.frombuffer(bytearray(lines, "ascii"), dtype=torch.uint8) if lines else nothing()


def decode(data: Tensor) -> list[Sample]:
    """Read what `encode` has written, also several of them in a row.

    Args:
        data: JSON lines. uint8 [N]

    Example:
        >>> sample = Sample(id="7", number=0, extract="none", correct=True, facts={"level": 2})
        >>> decode(torch.cat([encode([sample]), encode([sample])])) == [sample, sample]
        True
    """
    lines = data.cpu().numpy().tobytes().decode("ascii").splitlines()
    return [Sample(**json.loads(line)) for line in lines]


def nothing() -> Tensor:
    """The encoding of no samples."""
    return torch.zeros(0, dtype=torch.uint8)


def unique(samples: Iterable[Sample]) -> list[Sample]:
    """Return each sample once, ordered by its key: a question that two ranks scored counts once."""
    by_key: dict[tuple[str, str, int], Sample] = {}
    for sample in samples:
        by_key.setdefault(sample.key, sample)
    return [by_key[key] for key in sorted(by_key)]


def by_question(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Return the samples of each question by its id, in order of first appearance."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.id, []).append(sample)
    return found
