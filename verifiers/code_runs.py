"""Runs a response's program through a problem's tests, in the sandbox, and says what came of each.

Expected results stay on this side. A program gets its input, or a call's arguments; what it writes or returns comes
back as data and is compared here. Tests that are Python run in a process of their own, which asks the program's process
for values and compares them itself.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rlsd_lightning.sandbox.box import Box, Program
from rlsd_lightning.sandbox.limits import MB, Limits
from rlsd_lightning.sandbox.values import encode
from rlsd_lightning.verifiers.code_comparison import same_output, same_value
from rlsd_lightning.verifiers.code_languages import (
    Language,
    executable_to_compile,
    executable_to_run,
    tool_of,
)
from rlsd_lightning.verifiers.code_problems import CodeTests

TROUBLES = ("timeout", "out_of_memory", "crash")
_OUT_OF_MEMORY = (b"MemoryError", b"std::bad_alloc", b"heap out of memory")
"""What Python, C++ and JavaScript say of it."""
_COMPILE_S = 10.0
_COMPILE_MB = 1024
_TESTER_EXTRA_S = 1.0
"""What the tests' own process may take longer than the program that it waits for."""


@dataclass(slots=True)
class Outcome:
    """What came of a program's tests."""

    passed: list[bool] = field(default_factory=list)
    """One per test that was run."""
    trouble: str = ""
    """The first of TROUBLES that there was."""
    detail: str = ""
    """Of the first test that failed: what happened, in words."""

    def note(self, passed: bool, detail: str = "", trouble: str = "") -> None:
        """Add a test."""
        self.passed.append(passed)
        self.detail = self.detail or ("" if passed else detail)
        self.trouble = self.trouble or trouble


def run_tests(tests: CodeTests, source: str, box: Box, *, packages: bool) -> Outcome:
    """Run a program through its tests; where all must pass, only until one fails.

    Args:
        tests: what to run.
        source: the program.
        box: where.
        packages: Python programs may import what is installed beside this package.

    Raises:
        SandboxError: the sandbox did not work.
    """
    run = _Run(tests, source, box, packages)
    if tests.mode == "asserts":
        return run.asserts()
    outcome = Outcome()
    each = run.programs() if tests.mode == "stdin_stdout" else run.calls()
    for number, (passed, detail, trouble) in enumerate(each, start=1):
        outcome.note(passed, f"test {number}: {detail}", trouble)
        if not passed and tests.scoring == "all_or_nothing":
            break
        if box.is_late:
            break
    return outcome


_Result = tuple[bool, str, str]
"""Whether a test passed; if not, what happened in words, and which trouble it was, if any."""


class _Run:
    def __init__(self, tests: CodeTests, source: str, box: Box, packages: bool) -> None:
        self._tests = tests
        self._source = source
        self._box = box
        paths = sysconfig.get_paths()
        self._paths = sorted({paths["purelib"], paths["platlib"]}) if packages else []

    def programs(self) -> Iterator[_Result]:
        """Run the program once per test, with its input, and compare its output."""
        language = self._tests.language
        start = self._start_program
        if language.tool:
            fault = self._compile(language) if language.compiles else None
            if fault is not None:
                yield fault
                return
            start = self._start_executable
        for given, wanted in zip(self._tests.inputs, self._tests.outputs, strict=True):
            program = self._box.wait(start(given.encode("utf-8", "surrogateescape"), wanted))
            failure = _failure(program)
            if failure is not None:
                yield failure
            else:
                got = bytes(program.stdout)
                yield (
                    same_output(got, wanted),
                    _differs("wrote", got.decode(errors="replace"), wanted),
                    "",
                )

    def calls(self) -> Iterator[_Result]:
        """Call the function once per test, each time in a fresh process, and compare what it returns."""
        for arguments, wanted in zip(self._tests.inputs, self._tests.outputs, strict=True):
            program = self._start_functions()
            answer = self._call(program, arguments)
            self._box.end(program)
            if answer is None:
                yield _failure(program) or (False, "it ended before it returned", "crash")
            elif "raised" in answer:
                yield _raised(answer["raised"])
            else:
                got = answer.get("value")
                yield same_value(got, wanted), _differs("returned", got, wanted), ""

    def asserts(self) -> Outcome:
        """Run the tests' file in one process, with the program in another one."""
        program = self._start_functions()
        loaded = self._box.receive(program)
        if loaded is None or "raised" in loaded:
            self._box.end(program)
            result = _raised(loaded["raised"]) if loaded else _failure(program)
            outcome = Outcome()
            outcome.note(*(result or (False, "it ended before it was tested", "crash")))
            return outcome
        tester = self._start_tester()
        reported, lost = self._converse(tester, program)
        self._box.end(tester)
        self._box.end(program)
        outcome = Outcome([bool(passed) for passed in reported])
        if len(reported) < self._tests.num_tests or not all(reported):
            fault = _failure(program) if lost else None
            said = _last_line(tester.stderr) or "an assert failed"
            timed_out = "timeout" if tester.out_of_time else ""
            outcome.detail, outcome.trouble = fault[1:] if fault else (said, timed_out)
        return outcome

    def _converse(self, tester: Program, program: Program) -> tuple[list[Any], bool]:
        """Carry questions and answers between both; returns what tests reported, and whether the program was lost."""
        lost = False
        while (asked := self._box.receive(tester)) is not None:
            if "outcomes" in asked:
                return asked["outcomes"], lost
            if not lost:
                self._box.send(program, **asked)
                answer = self._box.receive(program)
                lost = answer is None
            if lost:
                answer = {"raised": ["RuntimeError", "the program has ended"]}
            self._box.send(tester, **answer)  # type: ignore[arg-type]
        return [], lost

    def _call(self, program: Program, arguments: list[Any]) -> dict[str, Any] | None:
        """Return what the function answers; None where the program ended instead."""
        loaded = self._box.receive(program)
        if loaded is None or "raised" in loaded:
            return loaded
        self._box.send(program, do="get", name=self._tests.function)
        found = self._box.receive(program)
        if found is None or "raised" in found:
            return found
        handle = found.get("value")
        if not isinstance(handle, dict) or handle.get("t") != "handle":
            return {"raised": ["TypeError", f"{self._tests.function} is no function"]}
        encoded = [encode(argument) for argument in arguments]
        self._box.send(program, do="call", target=handle.get("v"), args=encoded, kwargs={})
        return self._box.receive(program)

    def _limits(self, wanted: str = "") -> Limits:
        return Limits(
            time_s=self._tests.time_limit_s,
            memory_mb=self._tests.memory_limit_mb,
            output_bytes=max(MB, 2 * len(wanted.encode("utf-8", "surrogateescape"))),
        )

    def _start_program(self, given: bytes, wanted: str) -> Program:
        message = {"source": self._source, "paths": self._paths}
        limits = self._limits(wanted)
        return self._box.start(
            ["program"], limits, message=message, stdin=given, readable=self._paths
        )

    def _start_functions(self) -> Program:
        message = {"source": self._source, "paths": self._paths}
        return self._box.start(["functions"], self._limits(), message=message, readable=self._paths)

    def _start_tester(self) -> Program:
        tests = self._tests
        limits = Limits(
            time_s=tests.time_limit_s + _TESTER_EXTRA_S, memory_mb=tests.memory_limit_mb
        )
        message = {
            "tests": tests.test_code,
            "paths": self._paths,
            "stop_at_first": tests.scoring == "all_or_nothing",
        }
        return self._box.start(["tests"], limits, message=message, readable=self._paths)

    def _start_executable(self, given: bytes, wanted: str) -> Program:
        language = self._tests.language
        if language.compiles:
            executable, command = self._binary, [self._binary]
            message: dict[str, Any] = {}
        else:
            executable = tool_of(language)
            heap = f"--max-old-space-size={self._tests.memory_limit_mb}"
            command = [executable, heap, *language.flags, language.file]
            message = {"files": {language.file: self._source}}
        return self._box.start(
            command,
            self._limits(wanted),
            message=message,
            stdin=given,
            executable=executable_to_run(executable),
            reserves_memory=language.reserves_memory,
        )

    @property
    def _binary(self) -> str:
        return f"{self._box.folder}/main"

    def _compile(self, language: Language) -> _Result | None:
        """Return why the source does not compile; None if it does."""
        command = [tool_of(language), *language.flags, "-o", self._binary, language.file, "-lm"]
        compiler = self._box.wait(
            self._box.start(
                command,
                Limits(time_s=_COMPILE_S, memory_mb=_COMPILE_MB),
                message={"files": {language.file: self._source}},
                executable=executable_to_compile(language),
                forks=True,
            )
        )
        if compiler.code == 0 and not compiler.killed:
            return None
        if compiler.out_of_time:
            return False, "compiling it took too long", "timeout"
        return False, f"it does not compile: {_complaint(compiler.stderr)}", ""


def _differs(how: str, got: Any, wanted: Any) -> str:
    return f"it {how} {got!a:.60}, wanted {wanted!a:.60}"


def _failure(program: Program) -> _Result | None:
    """Return what was wrong with how a program ended; None if nothing was."""
    if program.out_of_time:
        return False, f"it took longer than {program.limits.time_s:g} s", "timeout"
    if program.killed == "output":
        return False, f"it wrote more than {program.limits.output_bytes} bytes", "crash"
    said = _last_line(program.stderr)
    if program.code and any(mark in program.stderr for mark in _OUT_OF_MEMORY):
        return False, f"it took more than {program.limits.memory_mb} MB of memory", "out_of_memory"
    if program.code < 0:
        return False, f"it was ended by signal {-program.code}", "crash"
    if program.code > 0:
        return False, f"it ended with exit code {program.code}: {said}", "crash"
    return None


def _raised(raised: Any) -> _Result:
    name, text = raised if isinstance(raised, list) and len(raised) == 2 else ("Exception", "")
    trouble = "out_of_memory" if name == "MemoryError" else "crash"
    return False, f"it raised {str(name)[:60]}: {str(text)[:120]}", trouble


def _last_line(said: bytes | bytearray) -> str:
    return _lines(said)[-1][:160]


def _complaint(said: bytes | bytearray) -> str:
    """Return the first error that a compiler names."""
    lines = _lines(said)
    return next((line for line in lines if "error: " in line), lines[0])[:160]


def _lines(said: bytes | bytearray) -> list[str]:
    return said.decode("utf-8", errors="replace").strip().splitlines() or [""]
