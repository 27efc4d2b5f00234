"""The metric that all benchmark evaluators are: it scores responses one by one and counts every question once."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torchmetrics import Metric

from rlsd_lightning.rank_files import of_rank
from rlsd_lightning.scoring.extract import EXTRACTIONS, check_extractions
from rlsd_lightning.scoring.samples import Sample, Score, decode, encode, nothing, unique
from rlsd_lightning.types import Problem


@runtime_checkable
class Judge(Protocol):
    """Reads answers where rules cannot: another model, or a person's notes. Off by default, as no number then depends on it."""

    def extract(self, problem: Problem, response: str) -> str:
        """Return the answer that the response gives, as short text; empty where it gives none."""
        ...


class Benchmark(Metric):
    """Scores responses by a benchmark's own rules; subclasses say how one is scored and how scores add up.

    Samples are keyed by problem id and number, so a question that a padded last batch repeats, or that two ranks score, counts
    once, and any number of ranks gives the same numbers.

    Args:
        scorer: the rule set, one of the subclass's `scorers`.
        extract: the step in front of it, see scoring.extract; with several, the numbers of all but the first are
            prefixed by the step's name: "answer_tag_or_box/accuracy".
        samples_per_problem: responses of a problem that count; later ones are duplicates.
        judge: reads the answer off a response that the rules cannot read; None leaves such a response wrong.
        audit_path: a JSONL file that gets every response with its extraction and verdict, written anew at every
            evaluation; further ranks write beside it, FILE.rank1.jsonl. None for none.

    Raises:
        ValueError: a scorer or an extraction that does not exist, or fewer than one sample per problem.
    """

    full_state_update = False
    higher_is_better = True
    scorers: ClassVar[tuple[str, ...]] = ("official", "vlmevalkit")
    headline: ClassVar[str] = "accuracy"
    """The number that stands for the benchmark; <headline>_low and <headline>_high are its interval."""
    encoded: list[Tensor]

    def __init__(
        self,
        *,
        scorer: str = "official",
        extract: str | Sequence[str] = "none",
        samples_per_problem: int = 1,
        judge: Judge | None = None,
        audit_path: str | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if scorer not in self.scorers:
            raise ValueError(
                f"{name}: scorer is {scorer!r}, but this benchmark has {' and '.join(self.scorers)}. Set one of them."
            )
        if samples_per_problem < 1:
            raise ValueError(
                f"{name}: samples_per_problem is {samples_per_problem}, but it must be 1 or more. Set it to how many "
                f"responses each problem gets."
            )
        self.scorer = scorer
        self.extract = check_extractions(name, extract)
        self.samples_per_problem = samples_per_problem
        self.judge = judge
        self.audit_path = None if audit_path is None else Path(audit_path)
        self._num_seen: Counter[str] = Counter()
        self.add_state("encoded", default=[], dist_reduce_fx="cat")
        self.reset()

    @abstractmethod
    def score(self, problem: Problem, text: str) -> Score:
        """Score the text that extraction left of a response; never raises on what a model wrote.

        Raises:
            ValueError: the problem lacks what the rules need, such as its options; names it.
        """

    @abstractmethod
    def aggregate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Turn samples of one extraction step, ordered by id, each once, into all the benchmark's numbers."""

    def text_to_score(self, step: str, response: str) -> str:
        """Return what an extraction step leaves of a response, in the form that the rules read."""
        return EXTRACTIONS[step](response)

    def update(self, problems: list[Problem], responses: list[str]) -> None:
        """Score responses.

        Args:
            problems: one per response; a problem with several responses comes several times. [B]
            responses: completions' texts. [B]
        """
        samples: list[Sample] = []
        audit: list[dict[str, Any]] = []
        for problem, response in zip(problems, responses, strict=True):
            number = self._num_seen[problem.id]
            if number == self.samples_per_problem:
                continue
            self._num_seen[problem.id] += 1
            for step in self.extract:
                text = self.text_to_score(step, response)
                score = self.score(problem, text)
                samples.append(
                    Sample(
                        id=problem.id,
                        number=number,
                        extract=step,
                        correct=score.correct,
                        note=score.note,
                        facts=score.facts,
                    )
                )
                audit.append(
                    {
                        "id": problem.id,
                        "sample": number,
                        "scorer": self.scorer,
                        "extract": step,
                        "response": response,
                        "extracted": text,
                        "prediction": score.prediction,
                        "answer": problem.answer,
                        "correct": score.correct,
                        "note": score.note,
                    }
                )
        self.encoded.append(encode(samples).to(self.device))
        if self.audit_path is not None:
            self._write_audit(self.audit_path, audit)

    def compute(self) -> dict[str, float]:
        """Return every number of the benchmark, over all ranks."""
        data = torch.cat(self.encoded) if isinstance(self.encoded, list) else self.encoded
        samples = unique(decode(data))
        found: dict[str, float] = {}
        for step in self.extract:
            prefix = "" if step == self.extract[0] else f"{step}/"
            of_step = [sample for sample in samples if sample.extract == step]
            numbers = self.aggregate(of_step) | {"num_responses": float(len(of_step))}
            found |= {prefix + name: value for name, value in numbers.items()}
        return found

    def reset(self) -> None:
        """Forget all samples; the next response starts the audit file anew."""
        super().reset()
        self.encoded.append(nothing().to(self.device))  # ranks gather equally many tensors: one
        self._num_seen.clear()
        self._audit_started = False

    def _write_audit(self, path: Path, rows: Sequence[dict[str, Any]]) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        path = of_rank(path, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if self._audit_started else "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")
        self._audit_started = True
