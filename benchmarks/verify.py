r"""Rows per second of judging responses in a VerifierPool, beside one process per answer.

    python benchmarks/verify.py                 everything, on two worker processes
    python benchmarks/verify.py --small         a twentieth of it
    python benchmarks/verify.py --only math     one line; several: --only math sql

Every line judges the responses of a step twice. First through the pool, as training does. Then as RLSD's released code
judges mathematics (arXiv:2604.03128): one answer after the other, each in a process that is forked for it and killed at a
time limit; there with the same verifier, so that only the way differs, and on a part of the rows, as it takes long.

    math            256 problems x 8 responses: no two thoughts are alike, but the answers of a group repeat, as those of
                    rollouts do: about half of them right, in one spelling or two, a common mistake, one-off mistakes,
                    some without an answer. Two golds in three are formulas, which only SymPy can compare.
    math, hostile   the same with 30 responses among them that are made to hang or bloat whoever judges them.
    the others      as many responses of their kind.

    rows/s          of the pool, by the clock.
    CPU s           processor time of this process, the pool's server and its workers.
    forked rows/s   of the other way, by the clock.

What else runs on the machine changes the clock more than the processor time: compare both.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _table import table

from rlsd_lightning.interfaces import Verifier
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import verify_batch
from rlsd_lightning.verifier_pool import VerifierPool
from rlsd_lightning.verifiers.boolean import Boolean
from rlsd_lightning.verifiers.code import Code
from rlsd_lightning.verifiers.math import Math
from rlsd_lightning.verifiers.multiple_choice import MultipleChoice
from rlsd_lightning.verifiers.numeric import Numeric
from rlsd_lightning.verifiers.sql import Sql

_GROUP_SIZE = 8
_NUM_PROBLEMS = 256
_STEP = _GROUP_SIZE * _NUM_PROBLEMS
_NUM_HOSTILE = 30
_SMALL = 20
"""What --small divides by."""
_FORK_LIMIT_S = 10.0
_HOSTILE = (
    "9^{{9^{{9^{{{}}}}}}}",
    "\\binom{{10^{{{}}}}}{{5\\cdot 10^{{8}}}}",
    "\\sum_{{n=1}}^{{10^{{{}}}}} \\frac{{1}}{{n}}",
    "e^{{e^{{e^{{e^{{{}}}}}}}}}",
    "\\frac{{(10^{{9}})!}}{{{}}}",
    "\\int_0^1 \\sin(\\cos(\\tan(x^{{{}}}))) dx",
    "\\prod_{{k=1}}^{{10^{{7}}}} (k+{})",
    "(x+y+z+w)^{{{}99}} - (x+y-z-w)^{{299}}",
    "\\sqrt{{2+\\sqrt{{2+\\sqrt{{2+\\sqrt{{2+\\sqrt{{{}}}}}}}}}}}^{{1999}}",
    "\\lim_{{x\\to 0}} \\frac{{\\sin^{{{}9}}(x) - \\tan^{{99}}(x)}}{{x^{{99}}}}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Responses of one kind, as a step brings them."""

    verifier: Verifier
    problems: list[Problem]
    """One per response."""
    responses: list[str]
    num_forked: int
    """How many of them the other way is given."""


def math(scale: int) -> Workload:
    """Groups of responses whose answers repeat."""
    draw = random.Random(0)
    problems, responses = [], []
    for number in range(_NUM_PROBLEMS // scale):
        gold, spellings, mistake = _formula(number)
        problem = Problem(id=str(number), prompt="?", answer=gold)
        for place in range(_GROUP_SIZE):
            answer = draw.choices(
                [gold, spellings, mistake, f"{gold}+{place + 2}", None], weights=[4, 2, 3, 1, 1]
            )[0]
            problems.append(problem)
            responses.append(_response(answer, number, place))
    return Workload(
        verifier=Math(), problems=problems, responses=responses, num_forked=max(8, 128 // scale)
    )


def _formula(number: int) -> tuple[str, str, str]:
    """Return a gold answer, the same in another spelling, and a mistake."""
    a, b = number + 2, number % 17 + 3
    return [
        (f"{a}", f"{a}.0", f"{a + 1}"),
        (f"\\frac{{{a}}}{{{b}}}", f"{2 * a}/{2 * b}", f"\\frac{{{b}}}{{{a}}}"),
        (f"x^2+{a}x+{b}", f"{b}+{a}x+x^2", f"x^2-{a}x+{b}"),
        (f"{a * b}", f"{a} \\cdot {b}", f"{a * b - 1}"),
        (f"({a}, {b})", f"\\left({a},{b}\\right)", f"({b}, {a})"),
        (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"{b}\\sqrt{{{a}}}"),
    ][number % 6]


def hostile_math(scale: int) -> Workload:
    """The same with responses among them that are made to do harm, always at the same places."""
    sound = math(scale)
    problems, responses = list(sound.problems), list(sound.responses)
    draw = random.Random(1)
    for number in range(max(2, _NUM_HOSTILE // scale)):
        answer = _HOSTILE[number % len(_HOSTILE)].format(number + 3)
        place = draw.randrange(len(problems))
        problems.insert(place, Problem(id=f"hostile {number}", prompt="?", answer="7"))
        responses.insert(place, _response(answer, number, 0))
    return Workload(verifier=Math(), problems=problems, responses=responses, num_forked=0)


def multiple_choice(scale: int) -> Workload:
    """Questions with four options each."""
    spellings = ("{0}", "({0})", "{0}. {1}", "{1}", "The answer is {0}.", "**{0}**")

    def ask(number: int) -> Problem:
        options = [f"item {number + place}" for place in range(4)]
        answer = "ABCD"[number % 4]
        return Problem(id=str(number), prompt="?", answer=answer, extra={"options": options})

    def answer(problem: Problem, number: int) -> str:
        letter = "ABCD"[number % 4]
        text = problem.extra["options"]["ABCD".index(letter)]
        return spellings[number // 4 % len(spellings)].format(letter, text)

    return _cheap(MultipleChoice(), ask, answer, scale)


def numeric(scale: int) -> Workload:
    """Numbers in several spellings."""
    spellings = ("{}", "{}.0", "${}$", "{} %", "{},000", "about {}")
    return _cheap(
        Numeric(rel_tol=1e-6),
        lambda number: Problem(id=str(number), prompt="?", answer=str(number)),
        lambda problem, number: spellings[number % len(spellings)].format(problem.answer),
        scale,
    )


def boolean(scale: int) -> Workload:
    """Yes and no in several spellings."""
    spellings = ("Yes", "no.", "True", "The answer is no", "Yes, {} of them are.", "It is {}.")
    return _cheap(
        Boolean(),
        lambda number: Problem(id=str(number), prompt="?", answer=["yes", "no"][number % 2]),
        lambda problem, number: spellings[number % len(spellings)].format(number),
        scale,
    )


def code(scale: int) -> Workload:
    """Python programs with one test each, no two alike, every second one right."""

    def program(number: int) -> str:
        total = f"a + b + {number}" if number % 2 else f"a - b + {number}"
        return f"```python\na, b = map(int, input().split())\nprint({total})\n```"

    problems = [
        Problem(
            id=str(number),
            prompt="?",
            extra={
                "mode": "stdin_stdout",
                "inputs": [f"{number} 2\n"],
                "outputs": [f"{2 * number + 2}\n"],
            },
        )
        for number in range(200 // scale)
    ]
    responses = [_response(program(number), number, 0) for number in range(len(problems))]
    return Workload(
        verifier=Code(), problems=problems, responses=responses, num_forked=max(4, 20 // scale)
    )


def sql(scale: int) -> Workload:
    """Queries on a database of two tables, in groups; no two of a group are alike."""
    spellings = (
        "SELECT name FROM staff WHERE salary > {0}",
        "SELECT name FROM staff WHERE NOT salary <= {0}",
        "SELECT s.name FROM staff s JOIN team t ON t.id = s.team_id WHERE s.salary > {0}",
        "SELECT name FROM staff WHERE salary >= {0}",
        "SELECT name, salary FROM staff WHERE salary > {0}",
        "SELECT count(*) FROM staff WHERE salary > {0}",
        "SELECT name FROM staff WHERE wage > {0}",
        "SELECT name FROM staff WHERE salary > {0} ORDER BY name",
    )
    people = ", ".join(f"({n}, 'person {n}', {n % 97}, {n % 5})" for n in range(200))
    schema = (
        "CREATE TABLE team(id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE staff(id INTEGER PRIMARY KEY, name TEXT, salary REAL, team_id INTEGER);"
        "INSERT INTO team VALUES (0, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (4, 'e');"
        f"INSERT INTO staff VALUES {people};"
    )
    problems, responses = [], []
    for number in range(_NUM_PROBLEMS // scale):
        gold = spellings[0].format(number % 90)
        extra = {"schema_and_data": schema}
        problem = Problem(id=str(number), prompt="?", answer=gold, extra=extra)
        for place, spelling in enumerate(spellings):
            query = f"```sql\n{spelling.format(number % 90)}\n```"
            problems.append(problem)
            responses.append(_response(query, number, place))
    return Workload(
        verifier=Sql(), problems=problems, responses=responses, num_forked=max(4, 20 // scale)
    )


def _cheap(
    verifier: Verifier,
    ask: Callable[[int], Problem],
    answer: Callable[[Problem, int], str],
    scale: int,
) -> Workload:
    asked = [ask(number) for number in range(20 * _NUM_PROBLEMS // scale)]
    problems = [problem for problem in asked for _ in range(_GROUP_SIZE)]
    responses = [
        _response(answer(problem, number), number, number % _GROUP_SIZE)
        for number, problem in enumerate(problems)
    ]
    return Workload(
        verifier=verifier, problems=problems, responses=responses, num_forked=max(8, 128 // scale)
    )


def _response(answer: str | None, number: int, place: int) -> str:
    """Write an answer under a thought of some 1,000 characters that nobody else has."""
    thought = " ".join(
        f"Step {step}: we compare {number * step} with {place}." for step in range(30)
    )
    given = "" if answer is None else f"<answer>{answer}</answer>"
    return f"<thought>{thought}</thought>\n{given}"


WORKLOADS: dict[str, tuple[str, Callable[[int], Workload]]] = {
    "math": ("2,048 in 20 s", math),
    "math, hostile": ("in 90 s", hostile_math),
    "multiple choice": ("50,000/s", multiple_choice),
    "numeric": ("50,000/s", numeric),
    "boolean": ("50,000/s", boolean),
    "code": ("20/s", code),
    "SQL": ("200/s", sql),
}
"""By name: what is aimed at, and what makes it for a scale (1 is everything)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What judging a workload took."""

    verdicts: list[Verdict]
    wall_s: float
    cpu_s: float


def in_pool(workload: Workload, workers: int) -> Measured:
    """Judge a workload through a pool that has started."""
    with VerifierPool(workers=workers, max_bad_fraction=1.0) as pool:
        pool.start(workload.verifier)
        cpu_s, wall_s = _cpu_s(os.getpid()), time.perf_counter()
        verdicts = []
        for start in range(0, len(workload.problems), _STEP + _NUM_HOSTILE):
            step = slice(start, start + _STEP + _NUM_HOSTILE)
            verdicts += pool.verify_batch(
                workload.verifier, workload.problems[step], workload.responses[step]
            )
        wall_s = time.perf_counter() - wall_s
        return Measured(verdicts=verdicts, wall_s=wall_s, cpu_s=_cpu_s(os.getpid()) - cpu_s)


def forked(workload: Workload) -> Measured:
    """Judge a part of a workload, spread over all of it, by one process after the other."""
    stride = _stride(workload)
    rows = list(zip(workload.problems[::stride], workload.responses[::stride], strict=True))
    cpu_s, wall_s = _cpu_s(os.getpid()), time.perf_counter()
    verdicts = [_in_a_fork(workload.verifier, *row) for row in rows]
    wall_s = time.perf_counter() - wall_s
    return Measured(verdicts=verdicts, wall_s=wall_s, cpu_s=_cpu_s(os.getpid()) - cpu_s)


def _stride(workload: Workload) -> int:
    """Return which part of a workload the other way is given: one response in so many."""
    return max(1, len(workload.problems) // workload.num_forked)


def _in_a_fork(verifier: Verifier, problem: Problem, response: str) -> Verdict:
    """Judge one response in a process of its own, which is killed at the time limit."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        [verdict] = verify_batch(verifier, [problem], [response])
        os.write(writing, b"%d%d" % (verdict.correct, verdict.valid))
        os._exit(0)
    os.close(writing)
    end = time.monotonic() + _FORK_LIMIT_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.0005)
    said = os.read(reading, 2).decode()
    os.close(reading)
    return Verdict(float(said[:1] == "1"), said[:1] == "1", valid=said[1:] == "1")


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process and of all that it started, those that have ended included."""
    spent, parents = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(folder.name)] = int(fields[1])
            spent[int(folder.name)] = sum(map(int, fields[11:15]))
    family = {pid}
    for one in sorted(parents):
        line = [one]
        while line[-1] in parents:
            line.append(parents[line[-1]])
        if family & set(line):
            family.add(one)
    return sum(spent[one] for one in family) / os.sysconf("SC_CLK_TCK")


def line(name: str, workload: Workload, pooled: Measured) -> list[str]:
    """Return a workload's line of the table; judges a part of it the other way, too."""
    num_rows = len(workload.problems)
    cells = [
        name,
        f"{num_rows:,}",
        f"{pooled.wall_s:.2f}",
        f"{pooled.cpu_s:.2f}",
        f"{num_rows / pooled.wall_s:,.0f}",
        WORKLOADS[name][0],
    ]
    if not workload.num_forked:
        return cells
    alone = forked(workload)
    told = [verdict.correct for verdict in pooled.verdicts[:: _stride(workload)]]
    assert told == [verdict.correct for verdict in alone.verdicts], "the two ways must agree"
    return [*cells, f"{len(alone.verdicts) / alone.wall_s:,.1f}"]


def unharmed(workload: Workload, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts on the responses that are not hostile."""
    rows = zip(workload.problems, verdicts, strict=True)
    return [verdict for problem, verdict in rows if not problem.id.startswith("hostile")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge every workload both ways and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help=f"1/{_SMALL} of the rows")
    parser.add_argument("--workers", type=int, default=2, help="processes of the pool")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    given = parser.parse_args(arguments)
    rows, sound = [], {}
    for name in given.only:
        workload = WORKLOADS[name][1](_SMALL if given.small else 1)
        pooled = in_pool(workload, given.workers)
        rows.append(line(name, workload, pooled))
        if name.startswith("math"):
            sound[name] = unharmed(workload, pooled.verdicts)
    header = ["kind", "rows", "seconds", "CPU s", "rows/s", "aim", "forked rows/s"]
    print(table(header, rows))
    if len(sound) == 2:
        same = "identical" if sound["math"] == sound["math, hostile"] else "CHANGED"
        print(f"math: verdicts on the other responses with hostile ones among them: {same}.")
    print(f"Load of the machine over the last minute: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
