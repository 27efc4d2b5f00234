"""Answers that are meant to hang a grader or to make it reach out; every property of a row is looked at for real.

Each row goes through a pool between ordinary answers, under a verifier that is watched in its worker. Programs and queries
have tests of their own (test_code.py, test_sql.py).
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verification import verify_batch
from rlsd_lightning.verifier_pool import VerifierPool
from rlsd_lightning.verifiers.by_kind import ByKind
from rlsd_lightning.verifiers.grounding import Grounding
from rlsd_lightning.verifiers.json_schema import JsonSchema
from rlsd_lightning.verifiers.math import Math
from rlsd_lightning.verifiers.regex import Regex
from tests.helpers.outside import num_open_files
from tests.helpers.watched import Reaching, Watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

CASES = Path(__file__).parents[1] / "data" / "verifier-cases"
ROWS = [
    json.loads(line)
    for name in ("hostile_math", "hostile_others")
    for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]
VERIFIERS = {
    "math": Math(time_limit_s=2),
    "regex": Regex(),
    "json_schema": JsonSchema(),
    "grounding": Grounding(),
}
VERIFIER = ByKind(verifiers=VERIFIERS, kinds={name: name for name in VERIFIERS})
ORDINARY = [
    (
        Problem(id="fraction", prompt="", answer="\\frac{1}{2}", kind="math"),
        "<answer>2/4</answer>",
        1,
    ),
    (Problem(id="sum", prompt="", answer="x+1", kind="math"), "<answer>$1+x$</answer>", 1),
    (Problem(id="box", prompt="", answer="[0, 0, 2, 1]", kind="grounding"), "[0, 0, 1, 1]", 0.5),
    (Problem(id="wrong", prompt="", answer="x^2", kind="math"), "<answer>x^3</answer>", 0),
]


def problem_of(row):
    extra = {name: value for name, value in row["extra"].items() if name != "rule"}
    return Problem(id=row["id"], prompt="", answer=row["reference"], kind=row["kind"], extra=extra)


def children(pid):
    """Processes that a process has started and that are still there, zombies included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append((int(path.parent.name), fields[0]))
    return sorted(found)


@pytest.fixture(scope="module")
def judged():
    """Verdicts on all rows with ordinary answers between them, what was counted, and what was left behind."""
    rows = []
    for number, row in enumerate(ROWS):
        rows += [(problem_of(row), row["response"]), ORDINARY[number % len(ORDINARY)][:2]]
    files, before = num_open_files(), children(os.getpid())
    with VerifierPool(workers=2, max_bad_fraction=1.0) as pool:
        verdicts = pool.verify_batch(Watched(VERIFIER), *map(list, zip(*rows, strict=True)))
        metrics = {name: float(mean) for name, mean in pool.read_metrics().items()}
        left = children(pool._processes._server.pid)
    left_here = num_open_files() - files, [c for c in children(os.getpid()) if c not in before]
    return verdicts, metrics, left, left_here


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row["id"] for row in ROWS])
def test_a_hostile_answer_earns_nothing_soon_and_reaches_for_nothing(number, judged):
    row, verdict = ROWS[number], judged[0][2 * number]
    assert verdict.reward == row["expected"] == row["property"]["score"]
    assert not verdict.correct
    assert verdict.parts["reached_out"] == 0, verdict.reason
    assert verdict.parts["cpu_s"] < row["property"]["max_seconds"]
    assert verdict.parts["peak_mb"] < row["property"]["max_child_rss_mb"]
    assert "root:" not in verdict.reason


def test_siblings_of_hostile_answers_have_their_own_verdicts(judged):
    """A box's likeness and mathematics in other words, right and wrong."""
    for number, verdict in enumerate(judged[0][1::2]):
        problem, response, reward = ORDINARY[number % len(ORDINARY)]
        [alone] = verify_batch(VERIFIER, [problem], [response])
        assert (verdict.reward, verdict.reason) == (reward, alone.reason)


def test_hostile_answers_are_counted_and_leave_nothing_behind(judged):
    """What a verifier gives up is not judged, and counted so; nothing here needs to be killed."""
    verdicts, metrics, left, left_here = judged
    assert metrics["verify/timeouts"] == metrics["verify/crashes"] == 0
    assert metrics["verify/out_of_memory"] == 0
    given_up = [row["id"] for row, v in zip(ROWS, verdicts[::2], strict=True) if not v.valid]
    assert {"hostile-0116", "own-0013"} <= set(given_up)  # a $ref that leads out of the schema
    assert all(verdict.valid for verdict in verdicts[1::2])
    assert len(left) == 2  # the workers
    assert {state for _, state in left} <= {"R", "S"}
    assert left_here == (0, [])


def test_at_once_or_in_a_worker_hostile_answers_have_the_same_verdicts(judged):
    start = time.process_time()
    for row, watched in zip(ROWS, judged[0][::2], strict=True):
        verdict = VERIFIER.verify_quickly(problem_of(row), row["response"])
        if verdict is not None:
            assert (verdict.reward, verdict.valid) == (watched.reward, watched.valid)
            assert verdict.reason == watched.reason
    assert time.process_time() - start < 2  # in the run's own process, nothing may take long


@pytest.mark.parametrize(
    "act",
    [
        "open('/etc/passwd').read()",
        "import os; open(os.devnull, 'w')",
        "import socket; socket.socket()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
    ],
)
def test_the_watch_sees_what_reaches_out(act):
    verdict = Watched(Reaching()).verify(Problem(id="1", prompt=""), act)
    assert verdict.parts["reached_out"] >= 1
