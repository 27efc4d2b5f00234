"""Whether the program in a response passes the problem's tests, run in a sandbox (docs/sandbox.md).

Three kinds of tests, named by the problem's extra.mode: a program with standard input and output, calls of a function,
asserts. Programs are Python; those with standard input and output may also be C, C++ or JavaScript.

A pass is never what the program says of itself, neither an exit code nor a printed mark: what it writes or returns is
compared outside of its process, which no expected result ever enters.
"""

from __future__ import annotations

from collections.abc import Iterable

from rlsd_lightning.answers.extraction import between_tags, fenced_block
from rlsd_lightning.sandbox.box import Box
from rlsd_lightning.sandbox.layers import require
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.code_problems import SCORINGS, CodeTests, Defaults, read_tests
from rlsd_lightning.verifiers.code_runs import TROUBLES, Outcome, run_tests

MAX_CHARS = 200_000
"""A longer program is wrong unread."""


class Code:
    r"""Right if the program passes all of the problem's tests.

    The program is the last fenced code block of the answer, or of the response if it has no answer tags; an answer
    without a code block is the program itself.

    What a problem's `extra` says of scoring, time_limit_s, memory_limit_mb and language comes before the arguments.

    Args:
        scoring: "all_or_nothing" pays 1 if all tests pass; "fraction" pays the share of tests that pass.
        time_limit_s: processor time of each test; for asserts, of all together.
        memory_limit_mb: memory of each test.
        total_limit_s: time for one response by the clock, compiling and all tests; what was not run until then has not
            passed. In worker processes, verification.timeout_s must be longer.
        packages: Python programs may import what is installed here (numpy), not only the standard library.
        which: of several answer tags or code blocks, the first or the last.
        unsafe: run programs even where the sandbox cannot keep them from the network and from files.

    Example:
        >>> tests = {"mode": "stdin_stdout", "inputs": ["1 2"], "outputs": ["3"]}
        >>> problem = Problem(id="1", prompt="", extra=tests)
        >>> verifier = Code()
        >>> verifier.verify(problem, "```python\nprint(sum(map(int, input().split())))\n```").reward
        1.0
        >>> verifier.verify(problem, "```python\nprint(4)\n```").reason
        "passed 0 of 1 tests: test 1: it wrote '4\\n', wanted '3'"
    """

    def __init__(
        self,
        *,
        scoring: str = "all_or_nothing",
        time_limit_s: float = 3.0,
        memory_limit_mb: int = 1024,
        total_limit_s: float = 8.0,
        packages: bool = False,
        which: str = "last",
        unsafe: bool = False,
    ) -> None:
        _check_arguments(scoring, time_limit_s, memory_limit_mb, total_limit_s, which)
        self.defaults = Defaults(
            scoring=scoring, time_limit_s=time_limit_s, memory_limit_mb=memory_limit_mb
        )
        self.total_limit_s = total_limit_s
        self.packages = packages
        self.which = which
        self.unsafe = unsafe

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` by the problem's tests."""
        tests = read_tests(problem, self.defaults)
        require(unsafe=self.unsafe)
        source = program_in(response, self.which)
        if source is None or len(source) > MAX_CHARS:
            return _not_run(tests, source)
        with Box(self.total_limit_s, unsafe=self.unsafe) as box:
            return _verdict(tests, run_tests(tests, source, box, packages=self.packages))

    def verify_quickly(self, problem: Problem, response: str) -> Verdict | None:
        """Judge a response in which there is nothing to run."""
        source = program_in(response, self.which)
        if source is None or len(source) > MAX_CHARS:
            return _not_run(read_tests(problem, self.defaults), source)
        return None

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the program: whatever else stands in the response, the verdict is the same."""
        return program_in(response, self.which)

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether every problem has tests that can be run here.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: tests are missing or make no sense, a compiler is missing, or the sandbox is not tight; the
                message names the problem.
        """
        for problem in problems:
            read_tests(problem, self.defaults)
            require(unsafe=self.unsafe)


def program_in(response: str, which: str = "last") -> str | None:
    r"""Return the program that a response gives; None where it gives none.

    Args:
        response: what the model wrote.
        which: of several answer tags or code blocks, the first or the last.

    Example:
        >>> program_in("<answer>First ```print``` this:\n```python\nprint(1)\n```\n</answer>")
        'print(1)\n'
        >>> program_in("<answer>print(2)</answer>"), program_in("print(2)")
        ('print(2)', None)
    """
    answer = between_tags(response, "answer", which)
    block = fenced_block(response if answer is None else answer, which)
    source = answer if block is None else block
    return source if source is not None and source.strip() else None


def _not_run(tests: CodeTests, source: str | None) -> Verdict:
    detail = "no program found" if source is None else "the program is too long"
    return _verdict(tests, Outcome(detail=detail))


def _verdict(tests: CodeTests, outcome: Outcome) -> Verdict:
    num_passed = sum(outcome.passed)
    correct = num_passed == tests.num_tests
    reward = num_passed / tests.num_tests if tests.scoring == "fraction" else float(correct)
    reason = f"passed {num_passed} of {tests.num_tests} tests"
    if not correct:
        late = "the time for all tests was over"
        said = (outcome.detail or late)[:200]
        reason += ": " + "".join(c if " " <= c <= "~" else "?" for c in said)
    parts = {trouble: float(outcome.trouble == trouble) for trouble in TROUBLES}
    return Verdict(reward=reward, correct=correct, parts=parts, reason=reason)


def _check_arguments(
    scoring: str, time_limit_s: float, memory_limit_mb: int, total_limit_s: float, which: str
) -> None:
    faults = []
    if scoring not in SCORINGS:
        faults.append(f"scoring is {scoring!r}, needs one of {', '.join(SCORINGS)}")
    for name, value in (
        ("time_limit_s", time_limit_s),
        ("memory_limit_mb", memory_limit_mb),
        ("total_limit_s", total_limit_s),
    ):
        if not 0 < value < float("inf"):
            faults.append(f"{name} is {value}, needs a number above 0")
    if which not in ("first", "last"):
        faults.append(f"which is {which!r}, needs first or last")
    if faults:
        raise ValueError("Code: " + "; ".join(faults) + ".")
