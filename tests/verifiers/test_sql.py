"""Queries are judged by their rows; none of them hangs, bloats, writes, or outlives the process that asked."""

import contextlib
import importlib.util
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verification import check_gold
from rlsd_lightning.verifier_pool import VerifierPool
from rlsd_lightning.verifiers import sql_sqlite
from rlsd_lightning.verifiers.sql import Sql

CASES = Path(__file__).parents[1] / "data" / "verifier-cases"
CANARY = Path("/tmp/verifiercanary")
SCHEMA = "CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, NULL);"


def rows(name):
    lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(row, id=row["id"]) for row in map(json.loads, lines)]


def problem(gold="SELECT a FROM t", **extra):
    extra = {"schema_and_data": SCHEMA} | extra
    return Problem(id="q1", prompt="", answer=gold, extra=extra, location="train.jsonl:7")


def answer(query):
    return f"<thought></thought>\n<answer>\n```sql\n{query}\n```\n</answer>"


def workers(parent=None):
    """Process ids of the query processes that a process has."""
    parent = parent or os.getpid()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and b"sql_worker" in line:
            found.add(int(folder.name))
    return found


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(is_so):
    for _ in range(100):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("waited for 5 s")


class PeakMemory(threading.Thread):
    """The largest resident memory that a query process has had, in MB, while this runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.mb = 0.0
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.05):
            for pid in workers():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if "VmHWM:" in status:
                    self.mb = max(self.mb, int(status.split("VmHWM:")[1].split()[0]) / 1024)

    def stop(self):
        self._over.set()
        self.join()
        return self.mb


@pytest.fixture(scope="module")
def sql():
    verifier = Sql()
    yield verifier
    verifier.close()


@pytest.fixture
def canary():
    CANARY.mkdir(exist_ok=True)
    for path in CANARY.iterdir():
        path.unlink()
    (CANARY / "kept").write_text("kept")
    yield CANARY
    assert [path.name for path in CANARY.iterdir()] == ["kept"]
    assert (CANARY / "kept").read_text() == "kept"
    (CANARY / "kept").unlink()
    CANARY.rmdir()


@pytest.mark.parametrize("row", rows("sql"))
def test_queries_are_judged_by_their_rows(sql, row):
    asked = Problem(id=row["id"], prompt="", answer=row["reference"], extra=row["extra"])
    verdict = sql.verify(asked, row["response"])
    assert verdict.valid
    assert verdict.reward == row["expected"], verdict.reason
    del row["extra"]["ordered"]  # the gold query itself says so
    assert sql.verify(asked, row["response"]).reward == row["expected"]


@pytest.mark.parametrize("row", rows("hostile_sql"))
def test_hostile_queries_harm_nobody(row, canary):
    verifier, others = Sql(), workers()
    sibling = problem()
    before = verifier.verify(sibling, answer("SELECT a FROM t"))
    files = len(os.listdir("/proc/self/fd"))
    memory = PeakMemory()
    memory.start()
    start = time.monotonic()
    asked = Problem(id=row["id"], prompt="", answer=row["reference"], extra=row["extra"])
    verdict = verifier.verify(asked, row["response"])
    assert time.monotonic() - start < row["property"]["max_seconds"]
    assert memory.stop() < row["property"]["max_child_rss_mb"]
    assert verdict.valid
    assert verdict.reward == row["expected"]
    assert verdict.parts["executed"] == 0
    assert verifier.verify(sibling, answer("SELECT a FROM t")) == before
    assert len(os.listdir("/proc/self/fd")) == files
    verifier.close()
    assert workers() == others


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (
            "SELECT 1 FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l",
            "more than 100000 rows",
        ),
        (
            "WITH RECURSIVE r(n, s) AS (SELECT 1, 'x' UNION ALL SELECT n+1, s || s FROM r) SELECT max(length(s)) FROM r",
            "too big",
        ),
        (
            "SELECT group_concat(a.b || c.b) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p",
            "took|too big",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 99) SELECT printf('%.*c', 900000, 'x') FROM r",
            "characters",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n+1 FROM r) SELECT count(*) FROM r",
            "took",
        ),
        ("SELECT " + "(" * 900 + "1" + ")" * 900, "too large|overflow"),
        ("SELECT " + "+".join("1" * 1000), "too large"),
        (" UNION ".join(["SELECT 1"] * 400), "too many terms"),
        ("ATTACH '/tmp/verifiercanary/new.db' AS n", "auth"),
        ("SELECT readfile('/etc/passwd')", "no such function|auth"),
        ("SELECT writefile('/tmp/verifiercanary/new', 'x')", "no such function|auth"),
        ("SELECT hex(randomblob(8))", "auth"),
        ("SELECT random()", "auth"),
        ("SELECT zeroblob(1000000000)", "auth"),
        ("PRAGMA writable_schema = 1", "auth"),
        ("SELECT * FROM pragma_database_list", "auth"),
        ("INSERT INTO t VALUES (3, 'z') RETURNING a", "auth"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "auth"),
        ("BEGIN", "auth"),
        ("SELECT a FROM t; SELECT a FROM t", "one statement"),
        ("SELECT a FROM t\0", "null character"),
        ("SELECT '\ud800'", "UnicodeEncodeError"),
    ],
)
def test_a_query_that_goes_too_far_earns_nothing(sql, canary, query, reason):
    verdict = sql.verify(problem(time_limit_s=0.3 if "took" in reason else 20), answer(query))
    assert (verdict.valid, verdict.reward, verdict.parts["executed"]) == (True, 0, 0)
    assert any(word in verdict.reason for word in reason.split("|")), verdict.reason
    assert sql.verify(problem(), answer("SELECT a FROM t")).correct


def test_memory_is_limited(sql):
    verifier, memory = Sql(memory_mb=64, time_limit_s=20), PeakMemory()
    memory.start()
    sorting = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 400) SELECT count(DISTINCT n || printf('%.*c', 999999, 'x')) FROM r"
    verdict = verifier.verify(problem(), answer(sorting))
    assert memory.stop() < 64 + 32
    assert "took more than 64 MB of memory" in verdict.reason
    assert verdict.parts == {"executed": 0, "stopped": 1}
    assert verifier.verify(problem(), answer("SELECT a FROM t")).correct
    verifier.close()


def test_every_query_finds_the_database_as_it_was_made(sql):
    inserting = problem("SELECT count(*) FROM t")
    for _ in range(3):
        assert not sql.verify(inserting, answer("DELETE FROM t")).correct
        assert sql.verify(inserting, answer("SELECT 3")).correct


@pytest.mark.parametrize(
    ("gold", "query", "correct"),
    [
        ("SELECT a FROM t", "SELECT a FROM t ORDER BY a DESC", True),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", False),
        ("SELECT a FROM t ORDER BY a", "select T.a from t as T order by 1;", True),
        ("SELECT a FROM t", "SELECT DISTINCT a FROM t", False),
        ("SELECT a FROM t", "SELECT a, b FROM t", False),
        ("SELECT a, b FROM t", "SELECT b, a FROM t", False),
        ("SELECT b FROM t", "SELECT coalesce(b, '') FROM t", False),
        ("SELECT sum(a) FROM t", "SELECT total(a) FROM t -- 5.0", True),
        ("SELECT a FROM t", "SELECT CAST(a AS TEXT) FROM t", False),
        ("SELECT b FROM t", "SELECT CAST(b AS BLOB) FROM t", False),
        ("SELECT CAST(x'ff' AS TEXT)", "SELECT CAST(x'ff' AS TEXT)", True),
        ("SELECT 9e999", "SELECT 9e999", True),
        ("SELECT 0.3", "SELECT 0.1 + 0.2", True),
        ("SELECT 9007199254740993", "SELECT 9007199254740992", False),
        ("SELECT a FROM t WHERE a > 5", "SELECT 1, 2 WHERE 0", True),
    ],
)
def test_results_are_compared_as_bags_of_typed_values(sql, gold, query, correct):
    verdict = sql.verify(problem(gold), answer(query))
    assert verdict.correct == correct, verdict.reason
    assert verdict.parts == {"executed": 1, "stopped": 0}


def test_a_problem_can_say_whether_order_counts(sql):
    backwards = answer("SELECT a FROM t ORDER BY a DESC")
    assert not sql.verify(problem(ordered=True), backwards).correct
    assert sql.verify(problem("SELECT a FROM t ORDER BY a", ordered=False), backwards).correct


def test_columns_may_stand_in_any_order_if_told_so():
    verifier = Sql(any_column_order=True)
    assert verifier.verify(problem("SELECT a, b FROM t"), answer("SELECT b, a FROM t")).correct
    assert not verifier.verify(problem("SELECT a, b FROM t"), answer("SELECT b, b FROM t")).correct
    verifier.close()


def test_the_last_query_counts_unless_told_otherwise(sql):
    right, wrong = answer("SELECT a FROM t"), answer("SELECT 1")
    assert sql.verify(problem(), wrong + right).correct
    assert not sql.verify(problem(), right + wrong).correct
    first = Sql(which="first")
    assert first.verify(problem(), right + wrong).correct
    first.close()


@pytest.mark.parametrize(
    "response",
    ["", "<answer></answer>", "<answer>\n```sql\n```\n</answer>", "<answer>-- SELECT 1</answer>"],
)
def test_no_query_is_wrong_even_where_the_gold_query_returns_nothing(sql, response):
    verdict = sql.verify(problem("SELECT a FROM t WHERE 0"), response)
    assert verdict.valid
    assert verdict.reward == 0


def test_too_long_a_query_is_wrong_unread(sql):
    assert not sql.verify(problem(), answer("SELECT a FROM t" + " " * 10_000 + "-- ")).correct


def test_a_gold_query_that_fails_is_not_judged(sql):
    for gold in ("", "SELECT c FROM t", "SELECT random()", "DROP TABLE t"):
        verdict = sql.verify(problem(gold), answer(gold))
        assert not verdict.valid
        assert verdict.reward == 0


def test_gold_queries_get_full_marks(sql):
    check_gold(sql, [problem(), problem("SELECT a, b FROM t ORDER BY a;")], limit=2)


def test_faults_of_problems_are_told_with_their_place_before_training(sql):
    sound = [problem(), problem("SELECT b FROM t")]
    sql.check(sound)
    bad = [problem("SELECT c FROM t"), problem("SELEC"), problem(schema_and_data="CREATE TABEL x")]
    with pytest.raises(ValueError, match="3 problems have no gold query that runs") as caught:
        sql.check(sound + bad)
    lines = str(caught.value).splitlines()
    assert lines[1] == (
        "  problem 'q1' (train.jsonl:7): the gold query 'SELECT c FROM t' fails: OperationalError: no such column: c"
    )
    assert 'near "SELEC": syntax error' in lines[2]
    assert lines[3].startswith("  problem 'q1' (train.jsonl:7): its sqlite database cannot be had")
    assert lines[3].endswith('near "TABEL": syntax error. Mend extra.schema_and_data.')


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ({"dialect": "oracle"}, "extra.dialect is 'oracle', but Sql knows sqlite, duckdb"),
        ({"time_limit_s": 0}, "extra.time_limit_s is 0"),
        ({"time_limit_s": True}, "extra.time_limit_s is True"),
        ({"ordered": "yes"}, "extra.ordered is 'yes'"),
        ({"schema_and_data": None}, "a query needs one of them"),
        ({"schema_and_data": ["CREATE TABLE t(a)"]}, "schema_and_data is given as list"),
        ({"dsn": "x.db"}, "a query needs one of them"),
        ({"dialect": "postgresql"}, "postgresql needs extra.dsn"),
        ({"schema_and_data": None, "dsn": "/nowhere.db"}, "cannot be had.*unable to open.*Mend extra.dsn"),
        ({"schema_and_data": "ATTACH '/tmp/verifiercanary/new.db' AS n"}, "cannot be had"),
        ({"schema_and_data": "VACUUM INTO '/tmp/verifiercanary/new.db'"}, "cannot be had"),
    ],
)  # fmt: skip
def test_settings_without_sense_name_the_problem(sql, canary, extra, fault):
    with pytest.raises(ValueError, match=f"train.jsonl:7.*{fault}"):
        sql.verify(problem(**extra), answer("SELECT 1"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"dialect": "oracle"},
        {"time_limit_s": 0},
        {"memory_mb": 0},
        {"max_rows": -1},
        {"which": "2"},
    ],
)
def test_arguments_without_sense_are_refused(arguments):
    with pytest.raises(ValueError, match=f"Sql: {next(iter(arguments))} is"):
        Sql(**arguments)


def test_gold_queries_without_rows_are_told_a_few_times(caplog):
    verifier = Sql()
    for _ in range(3):
        verifier.check([problem("SELECT a FROM t WHERE a > 9")] * 3)
    assert len(caplog.messages) == 5
    assert "train.jsonl:7) returns no row, so that any query without rows is right" in caplog.text
    assert caplog.messages[-1].endswith("further ones are not told.")
    verifier.close()


def test_one_database_can_serve_all_problems(tmp_path):
    file = tmp_path / "shop 1.db"
    bare = Problem(id="1", prompt="", answer="SELECT a FROM t")
    subprocess.run(
        [sys.executable, "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])", file, SCHEMA],
        check=True,
    )  # fmt: skip
    content = file.read_bytes()
    for verifier in (Sql(schema_and_data=SCHEMA), Sql(dsn=str(file))):
        verifier.check([bare])
        assert verifier.verify(bare, answer("SELECT a FROM t ORDER BY b")).correct
        assert not verifier.verify(bare, answer("DELETE FROM t")).correct
        assert verifier.verify(bare, answer("SELECT a FROM t")).correct
        verifier.close()
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["shop 1.db"]


def test_a_gold_result_is_computed_once():
    slow = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 300000) SELECT max(n) FROM r"
    verifier = Sql()
    verifier.verify(problem(slow), answer("SELECT 300000"))
    start = time.perf_counter()
    for _ in range(20):
        assert verifier.verify(problem(slow), answer("SELECT 300000")).correct
    assert time.perf_counter() - start < 1, "computing it takes 50 ms or more"
    verifier.close()


def test_processes_start_late_end_with_close_and_start_again():
    verifier = Sql()
    before = workers()
    assert verifier.verify(problem(), answer("SELECT a FROM t")).correct
    [pid] = workers() - before
    verifier.close()
    assert not alive(pid)
    assert verifier.verify(problem(), answer("SELECT a FROM t")).correct
    [pid] = workers() - before
    del verifier
    assert not alive(pid)


def test_a_process_that_is_killed_costs_no_verdict(sql):
    assert sql.verify(problem(), answer("SELECT a FROM t")).correct
    before = workers()
    for pid in before:
        os.kill(
            pid, signal.SIGINT
        )  # as a terminal sends it to all, which is for the trainer to act on
    assert sql.verify(problem(), answer("SELECT a FROM t")).correct
    assert workers() == before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert sql.verify(problem(), answer("SELECT a FROM t")).correct

    def kill_while_it_works():
        time.sleep(0.3)
        os.kill(min(workers()), signal.SIGKILL)

    killer = threading.Thread(target=kill_while_it_works)
    killer.start()
    slow = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 4000000) SELECT max(n) % 2 FROM r"
    verdict = sql.verify(problem("SELECT 0", time_limit_s=20), answer(slow))
    killer.join()
    assert verdict.correct, verdict.reason


def test_what_was_interrupted_does_not_answer_the_next_query(sql):
    for number in range(2):
        sql.verify(problem(time_limit_s=0.1), answer("SELECT printf('%.*c', 2000000000, 'x')"))
        wanted = f"SELECT {number}"
        assert sql.verify(problem(wanted), answer(wanted)).correct


@pytest.mark.parametrize("is_file", [True, False])
def test_each_lock_on_a_database_holds_by_itself(tmp_path, is_file):
    file = tmp_path / "x.db"
    with contextlib.closing(sqlite3.connect(file)) as made:
        made.executescript(SCHEMA)
    place = ("", str(file)) if is_file else (SCHEMA, "")
    with contextlib.closing(sql_sqlite.connect(*place, memory_mb=4096)) as connection:
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            connection.execute("DELETE FROM t")
        connection.set_authorizer(None)
        with pytest.raises(sqlite3.OperationalError, match="readonly database"):
            connection.execute("DELETE FROM t")
        connection.execute("PRAGMA query_only = off")
        if is_file:
            with pytest.raises(sqlite3.OperationalError, match="readonly database"):
                connection.execute("DELETE FROM t")


def test_while_a_query_runs_its_process_can_open_and_write_nothing():
    verifier, others = Sql(memory_mb=64), workers()
    slow = answer("SELECT printf('%.*c', 2000000000, 'x')")
    asking = threading.Thread(target=verifier.verify, args=(problem(time_limit_s=0.7), slow))
    asking.start()
    eventually(lambda: workers() - others)
    [pid] = workers() - others
    seen = set()
    while asking.is_alive() and alive(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
            seen |= {(line[26:].split()[0], line[:26].strip()) for line in lines}
        time.sleep(0.02)
    asking.join()
    verifier.close()
    size = str((64 + 128) * 2**20)
    assert {("0", "Max open files"), ("0", "Max file size"), (size, "Max address space")} <= seen


def test_the_clock_is_looked_at_while_a_query_runs():
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT max(n) FROM r"
    with (
        contextlib.closing(sql_sqlite.connect(SCHEMA, "", memory_mb=4096)) as connection,
        pytest.raises(TimeoutError, match=r"took longer than 0\.05 s"),
    ):
        list(sql_sqlite.select(connection, endless, 0.05))


def test_any_thread_may_ask(sql):
    wrong = []

    def ask(name):
        for number in range(20):
            asked = problem(f"SELECT {number}")
            if sql.verify(
                asked, answer(f"SELECT {number if number % 2 else name}")
            ).correct != bool(number % 2):
                wrong.append((name, number))

    threads = [threading.Thread(target=ask, args=(100 + name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_copy_for_another_process_has_no_process_of_its_own(sql):
    sql.verify(problem(), answer("SELECT a FROM t"))
    before = workers()
    copy = pickle.loads(pickle.dumps(sql))
    assert pickle.dumps(copy) == pickle.dumps(Sql())
    assert workers() == before
    assert copy.verify(problem(), answer("SELECT a FROM t")).correct
    copy.close()
    assert workers() == before


def test_when_the_trainer_is_killed_the_query_ends_too():
    script = """
from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.sql import Sql
asked = Problem(id="1", prompt="", answer="SELECT 1", extra={"schema_and_data": "", "time_limit_s": 60})
Sql().verify(asked, "<answer>SELECT printf('%.*c', 2147483647, 'x'), printf('%.*c', 2147483647, 'x')</answer>")
"""
    with subprocess.Popen([sys.executable, "-c", script]) as trainer:
        eventually(lambda: workers(trainer.pid))
        found = workers(trainer.pid)
        time.sleep(0.2)
        trainer.kill()
    eventually(lambda: not any(alive(pid) for pid in found))


@pytest.mark.slow
def test_a_pool_judges_the_same_and_leaves_no_process():
    asked = [problem(time_limit_s=0.3)] * 4
    responses = [
        answer("SELECT a FROM t"),
        answer("SELECT printf('%.*c', 2000000000, 'x')"),
        answer("SELECT 1"),
        answer("SELECT a FROM t -- again"),
    ]
    here = Sql()
    wanted = [here.verify(*pair) for pair in zip(asked, responses, strict=True)]
    here.close()
    everywhere = {path.name for path in Path("/proc").glob("[0-9]*") if _is_worker(path)}
    with VerifierPool(workers=2) as pool:
        assert pool.verify_batch(Sql(), asked, responses) == wanted
        assert {float(mean.total) for mean in pool.read_metrics().values()} == {0}
    eventually(
        lambda: {p.name for p in Path("/proc").glob("[0-9]*") if _is_worker(p)} <= everywhere
    )


def _is_worker(folder):
    try:
        return b"sql_worker" in (folder / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(("dialect", "package"), [("duckdb", "duckdb"), ("postgresql", "psycopg")])
def test_a_dialect_without_its_package_is_told(monkeypatch, dialect, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    database = {"dsn": "x"} if dialect == "postgresql" else {"schema_and_data": ""}
    asked = Problem(id="1", prompt="", answer="SELECT 1", extra=database)
    with pytest.raises(
        ValueError, match=rf"needs the package {package}.*rlsd-lightning\[{dialect}\]"
    ):
        Sql(dialect=dialect).check([asked])
