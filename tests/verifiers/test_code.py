import json
import sys
import time
from pathlib import Path

import pytest

from rlsd_lightning.sandbox.layers import layers
from rlsd_lightning.types import Problem
from rlsd_lightning.verifier_pool import VerifierPool
from rlsd_lightning.verifiers.code import Code
from tests.helpers.outside import (
    Outside,
    left_behind,
    num_open_files,
    use_as_temporary_folder,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

CASES = Path(__file__).parents[1] / "data" / "verifier-cases"
ADD = {"mode": "stdin_stdout", "inputs": ["1 2\n", "10 -3\n"], "outputs": ["3\n", "7\n"]}
CALL = {"mode": "functional", "fn_name": "f", "inputs": [[1, 2], [10, -3]], "outputs": [3, 7]}
RIGHT = "a, b = map(int, input().split())\nprint(a + b)"
SHORT = {"time_limit_s": 0.3, "memory_limit_mb": 256}


def rows(name):
    lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(row, id=row["id"]) for row in map(json.loads, lines)]


def problem(extra, number=0):
    return Problem(id=f"q{number}", prompt="", extra=extra, location=f"t.jsonl:{number}")


def fenced(source, language="python"):
    return f"<thought>t</thought>\n<answer>\n```{language}\n{source}\n```\n</answer>"


def judge(source, extra, language="python", **options):
    return Code(**options).verify(problem(extra), fenced(source, language))


def asserts(test_code, **more):
    return {"mode": "asserts", "test_code": test_code, **more}


@pytest.mark.parametrize("row", rows("code"))
def test_verdicts_are_those_of_an_isolated_comparison(row):
    extra = row["extra"] | {"time_limit_s": 1}
    assert Code().verify(problem(extra), row["response"]).reward == row["expected"]


def test_a_line_missing_from_a_long_output_is_seen():
    wanted = "".join(f"{i}\n" for i in range(20_000))  # 109 kB, more than a pipe holds
    extra = {"mode": "stdin_stdout", "inputs": ["20000\n"], "outputs": [wanted]}
    assert judge("for i in range(int(input())): print(i)", extra).correct
    assert not judge("for i in range(int(input()) - 1): print(i)", extra).correct


@pytest.fixture
def folder(monkeypatch, tmp_path):
    return use_as_temporary_folder(monkeypatch, tmp_path / "temporary")


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    made = Outside(tmp_path / "outside")
    yield made
    made.close()


HOSTILE = {"mode": "stdin_stdout", "inputs": ["1 2\n"], "outputs": ["3\n"], **SHORT}


@pytest.mark.parametrize("row", rows("hostile_code"))
def test_a_hostile_program_earns_nothing_and_touches_nothing(row, folder, outside):
    layers()  # the self-test opens files of its own
    open_files = num_open_files()
    start = time.monotonic()
    verdict = judge(outside.fill_in(row["program"]), HOSTILE)
    assert time.monotonic() - start < 6
    assert verdict.valid
    assert verdict.reward == row["expected"] or row["expected"] is None
    assert outside.faults() == []
    assert left_behind(folder) == []
    assert num_open_files() == open_files


def test_hostile_programs_leave_their_siblings_in_a_pool_alone(folder, outside):
    hostile = [param.values[0] for param in rows("hostile_code")]
    problems, responses, right = [], [], fenced(RIGHT)
    for number, row in enumerate(hostile):
        problems += [problem(HOSTILE, f"h{number}"), problem(ADD, f"s{number}")]
        responses += [fenced(outside.fill_in(row["program"])), right]
    with VerifierPool(workers=2, timeout_s=10, max_bad_fraction=1.0) as pool:
        verdicts = pool.verify_batch(Code(), problems, responses)
        assert all(verdict.correct for verdict in verdicts[1::2])
        for row, verdict in zip(hostile, verdicts[::2], strict=True):
            assert verdict.reward == row["expected"] or row["expected"] is None
        assert float(pool.read_metrics()["verify/bad_fraction"]) == 0
        assert left_behind(folder) == []
    assert outside.faults() == []
    counted = {name: sum(v.parts[name] for v in verdicts) for name in ("timeout", "crash")}
    assert counted["timeout"] > 5
    assert counted["crash"] > 20
