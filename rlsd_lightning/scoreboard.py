"""The table of a test: one line per benchmark, for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd_lightning.data.datamodule import Evaluation
from rlsd_lightning.prompts import PromptTemplate
from rlsd_lightning.responses import Response
from rlsd_lightning.scoring import Benchmark

log = logging.getLogger(__name__)

_HEADINGS = ("benchmark", "n", "number", "score, %", "95 % interval", "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a table says of one benchmark."""

    benchmark: str
    """The evaluation's name."""
    num_responses: int
    headline: str
    """The name of the number that stands for the benchmark."""
    numbers: dict[str, float]
    """All numbers of the benchmark."""
    seconds: float
    """What sampling the responses took, added up over ranks and over all starts of the test."""

    @property
    def score(self) -> float:
        """The headline number, a fraction."""
        return self.numbers[self.headline]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the headline number; None where the evaluator gives none."""
        ends = [self.numbers.get(f"{self.headline}_{end}") for end in ("low", "high")]
        return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])

    def cells(self) -> tuple[str, ...]:
        """Return what stands under the headings."""
        interval = "" if self.interval is None else " to ".join(map(_percent, self.interval))
        return (
            self.benchmark,
            f"{self.num_responses:,}",
            self.headline,
            _percent(self.score),
            interval,
            f"{self.seconds:.0f}",
        )


def score(name: str, evaluation: Evaluation, responses: Sequence[Response]) -> Row:
    """Score the responses of one evaluation; the headline of an evaluator that names none is its first number.

    Args:
        name: of the evaluation.
        evaluation: its problems and its metric.
        responses: in any order.

    Raises:
        ValueError: responses to problems that the evaluation does not have.
    """
    by_id: dict[str, list[Response]] = {}
    for response in responses:
        by_id.setdefault(response.id, []).append(response)
    metric = evaluation.metric
    metric.reset()
    metric.distributed_available_fn = lambda: False  # this process has all responses
    num_problems = num_responses = 0
    for problem in (evaluation.problems[i] for i in range(len(evaluation.problems))):
        given = sorted(by_id.pop(problem.id, []), key=lambda response: response.sample)
        given = given[: evaluation.samples_per_problem]
        if given:
            metric.update([problem] * len(given), [response.text for response in given])
        num_problems += bool(given)
        num_responses += len(given)
    if by_id:
        raise ValueError(
            f"responses of {name}: {len(by_id)} of its ids belong to no problem, such as {', '.join(list(by_id)[:3])}. "
            f"Needed: ids of the {len(evaluation.problems)} problems of evaluators.{name}.problems. Correct the file or path."
        )
    if num_problems < len(evaluation.problems):
        log.warning(
            "%s: %d of %d problems have no response; its numbers are over the others.",
            *(name, len(evaluation.problems) - num_problems, len(evaluation.problems)),
        )
    numbers = metric.compute()
    return Row(
        benchmark=name,
        num_responses=num_responses,
        headline=metric.headline if isinstance(metric, Benchmark) else next(iter(numbers)),
        numbers=numbers,
        seconds=sum(response.seconds for response in responses),
    )


def describe(evaluation: Evaluation, template: PromptTemplate) -> dict[str, Any]:
    """Say what the responses of an evaluation depend on besides weights and problems, as JSON can hold it.

    Args:
        evaluation: its sampling and its prompt.
        template: the run's own, for an evaluation without one.
    """
    sampling = dataclasses.asdict(evaluation.sampling)
    return {f"sampling.{name}": value for name, value in sampling.items()} | {
        "samples_per_problem": evaluation.samples_per_problem,
        "prompt": template.source if evaluation.prompt is None else evaluation.prompt,
        "system": template.system,
    }


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal, its columns aligned."""
    lines = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown.

    Example:
        >>> one = Row(benchmark="mmmu", num_responses=900, headline="accuracy", numbers={"accuracy": 0.625}, seconds=9.0)
        >>> print(as_markdown([one]))
        | benchmark | n | number | score, % | 95 % interval | s |
        |---|---|---|---|---|---|
        | mmmu | 900 | accuracy | 62.50 |  | 9 |
    """
    lines = [_HEADINGS, ("---",) * len(_HEADINGS), *(row.cells() for row in rows)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    table[1] = table[1].replace(" ", "")
    return "\n".join(table)


def write(rows: Sequence[Row], folder: Path, about: Mapping[str, Any]) -> None:
    """Write scores.md (the table) and scores.json (every number, and what was scored) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.md").write_text(as_markdown(rows) + "\n", encoding="utf-8")
    scores = {
        row.benchmark: {
            "headline": row.headline,
            "num_responses": row.num_responses,
            "seconds": round(row.seconds, 1),
            # JSON knows no NaN.
            "numbers": {k: None if math.isnan(v) else v for k, v in row.numbers.items()},
        }
        for row in rows
    }
    content = json.dumps({"about": about, "scores": scores}, indent=2, ensure_ascii=False)
    (folder / "scores.json").write_text(content + "\n", encoding="utf-8")


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"
