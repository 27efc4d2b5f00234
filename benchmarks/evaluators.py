"""Seconds and memory of scoring 10,000 responses with each benchmark evaluator.

    python benchmarks/evaluators.py                    all five, official rules with and without extraction
    python benchmarks/evaluators.py --responses 1000   fewer

Every benchmark is a process of its own. Problems have the published fields; responses are a worked solution of some 2,000
characters that ends in an answer, half of them right, written in turn as official prompts, tags, boxes and plain talk have
it. No two responses are equal, so no cache can answer for all.

    seconds      of update (in batches of 64) and compute.
    responses/s  of both extraction steps together: each response is scored twice.
    right        the share of right answers that the rules found, without and with extraction; half of them are right.
    growth       resident memory at the end over that after a tenth of the responses: what a longer test would add.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from _table import table

from rlsd_lightning.evaluators.mathvision import MathVision
from rlsd_lightning.evaluators.mathvista import MathVista
from rlsd_lightning.evaluators.mmmu import MMMU
from rlsd_lightning.evaluators.wemath import WeMath
from rlsd_lightning.evaluators.zerobench import ZeroBench
from rlsd_lightning.scoring import Benchmark
from rlsd_lightning.types import Problem

_BATCH = 64
_STEPS = "none", "answer_tag_or_box"
_STYLES = (
    "{thought} <answer>{answer}</answer>",
    "{thought} So it is \\boxed{{{answer}}}",
    "{thought} The final answer is {answer}",
    "{thought} Answer: {answer}",
    "{thought} {{{answer}}}",
)
_LETTERS = "ABCD"


def mmmu(number: int) -> Problem:
    """A question of four options; every tenth is open."""
    options = [f"${number + i}" for i in range(4)]
    kind = "open" if number % 10 == 0 else "multiple-choice"
    answer = str(number) if kind == "open" else _LETTERS[number % 4]
    extra = {"options": options, "question_type": kind}
    return Problem(id=f"validation_Math_{number}", prompt="?", answer=answer, extra=extra)


def mathvista(number: int) -> Problem:
    """An integer, a decimal, or one of four choices."""
    kinds = [("free_form", "integer"), ("free_form", "float"), ("multi_choice", "text")]
    question, answer = kinds[number % 3]
    choices = [f"item {number + i}" for i in range(4)]
    gold = {"integer": str(number), "float": f"{number / 7:.2f}", "text": choices[number % 4]}[
        answer
    ]
    extra = {
        "choices": choices if question == "multi_choice" else None,
        "precision": 2.0 if answer == "float" else None,
        "question_type": question,
        "answer_type": answer,
        "language": "english",
        "source": "TabMWP",
        "category": "general-vqa",
        "task": "math word problem",
        "context": "table",
        "grade": "high school",
        "skills": ["arithmetic reasoning", "statistical reasoning"],
    }
    return Problem(
        id=str(number), prompt="?", answer=gold, extra={k: v for k, v in extra.items() if v}
    )


def mathvision(number: int) -> Problem:
    """A fraction, a root, a multiple of pi, or one of five options; no two are alike."""
    golds = [f"\\frac{{{number}}}{{{number + 1}}}", f"{number}\\sqrt{{3}}", f"{number}\\pi"]
    extra = {"options": [], "level": 1 + number % 5, "subject": "algebra"}
    if number % 4 == 3:
        extra["options"] = [str(number + i) for i in range(5)]
        return Problem(id=str(number), prompt="?", answer=_LETTERS[number // 4 % 4], extra=extra)
    return Problem(id=str(number), prompt="?", answer=golds[number % 3], extra=extra)


def wemath(number: int) -> Problem:
    """A row of a two-step problem: first step, second step, both."""
    identity, key = divmod(number, 3)
    key = ("2steps_1", "2steps_2", "2steps_multi")[key]
    extra = {
        "ID": f"2steps_{identity}",
        "key": key,
        "option": "A. 1; B. 2; C. 3; D. 4; E. No correct answer",
        "knowledge concept": "Properties and Understanding of Rectangles",
        "question number": number,
    }
    answer = _LETTERS[number % 4]
    return Problem(id=f"2steps_{identity}/{key}", prompt="?", answer=answer, extra=extra)


def zerobench(number: int) -> Problem:
    """A question that is sampled five times."""
    question = str(number // 5)
    return Problem(id=question, prompt="?", answer=question, extra={"main_question_id": question})


BENCHMARKS: Mapping[str, tuple[type[Benchmark], Callable[[int], Problem]]] = {
    "mmmu": (MMMU, mmmu),
    "mathvista": (MathVista, mathvista),
    "mathvision": (MathVision, mathvision),
    "wemath": (WeMath, wemath),
    "zerobench": (ZeroBench, zerobench),
}


def response_to(problem: Problem, number: int) -> str:
    """A long worked solution that ends in an answer, right for every second problem."""
    steps = (f"Step {i}: we take {number * i} and compare it with {number + i}." for i in range(45))
    answer = problem.answer if number % 2 else f"{number + 17}"
    return _STYLES[number // 2 % len(_STYLES)].format(thought=" ".join(steps), answer=answer)


def measure(name: str, num_responses: int) -> dict[str, float]:
    """Score responses in this process."""
    make, problem_of = BENCHMARKS[name]
    metric = make(extract=list(_STEPS))
    seconds, early = 0.0, None
    for numbers in _batches(num_responses):
        problems = [problem_of(number) for number in numbers]
        responses = [response_to(p, n) for p, n in zip(problems, numbers, strict=True)]
        started = time.perf_counter()
        metric.update(problems, responses)
        seconds += time.perf_counter() - started
        if early is None and numbers[-1] >= num_responses // 10:
            early = _resident_bytes()
    late = _resident_bytes()
    started = time.perf_counter()
    numbers_found = metric.compute()
    seconds += time.perf_counter() - started
    shown = "accuracy/S1" if name == "wemath" else metric.headline  # its score is over 525 problems
    return {
        "seconds": seconds,
        "growth": late - (early or late),
        "right": numbers_found[shown],
        "right_extracted": numbers_found[f"{_STEPS[1]}/{shown}"],
    }


def main() -> None:
    """Measure each benchmark in a process of its own and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--responses", type=int, default=10_000, help="responses per benchmark")
    parser.add_argument("--only", choices=BENCHMARKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.responses)))
        return
    rows = []
    for name in BENCHMARKS:
        command = [
            sys.executable,
            __file__,
            "--only",
            name,
            "--responses",
            str(arguments.responses),
        ]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=one_thread)
        found = json.loads(done.stdout)
        speed = arguments.responses / found["seconds"]
        rows.append(
            [
                name,
                f"{arguments.responses:,}",
                f"{found['seconds']:.1f}",
                f"{speed:,.0f}",
                f"{found['growth'] / 2**20:.1f} MiB",
                f"{found['right']:.3f}",
                f"{found['right_extracted']:.3f}",
            ]
        )
    header = ["benchmark", "responses", "seconds", "responses/s", "growth"]
    print(table([*header, "right", "after extraction"], rows))


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, _BATCH):
        yield range(start, min(start + _BATCH, count))


def _resident_bytes() -> int:
    status = Path("/proc/self/statm").read_text(encoding="utf-8")
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
