"""Queries on DuckDB; skipped where it is not installed."""

import subprocess
import sys

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.sql import Sql

pytest.importorskip("duckdb", reason="needs pip install rlsd-lightning[duckdb]")
SCHEMA = "CREATE TABLE t(a INTEGER, b TEXT, c DECIMAL(5, 2)); INSERT INTO t VALUES (1, 'x', 1.5), (2, NULL, 2);"


@pytest.fixture(scope="module")
def sql():
    verifier = Sql(dialect="duckdb")
    yield verifier
    verifier.close()


def problem(gold="SELECT a FROM t", **extra):
    return Problem(id="q1", prompt="", answer=gold, extra={"schema_and_data": SCHEMA} | extra)


def answer(query):
    return f"<answer>\n```sql\n{query}\n```\n</answer>"


@pytest.mark.parametrize(
    ("gold", "query", "correct"),
    [
        ("SELECT a FROM t", "FROM t SELECT a ORDER BY a DESC", True),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", False),
        ("SELECT c FROM t", "SELECT CAST(c AS DOUBLE) FROM t", True),
        ("SELECT count(b) FROM t", "SELECT true", True),
        ("SELECT DATE '2020-01-02'", "SELECT '2020-01-02'", True),
        ("SELECT [1, 2]", "SELECT [2, 1]", False),
        ("SELECT 'a'::BLOB", "SELECT 'a'", False),
        ("SELECT 170141183460469231731687303715884105727", "SELECT 1", False),
    ],
)
def test_results_are_compared(sql, gold, query, correct):
    verdict = sql.verify(problem(gold), answer(query))
    assert verdict.valid, verdict.reason
    assert verdict.correct == correct, verdict.reason


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("DELETE FROM t", "not one statement that only reads"),
        ("SELECT a FROM t; SELECT a FROM t", "not one statement that only reads"),
        ("COPY t TO 'new.csv'", "not one statement that only reads"),
        ("ATTACH 'new.db'", "not one statement that only reads"),
        ("SET enable_external_access = true", "not one statement that only reads"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM glob('/*')", "disabled by configuration"),
        ("SELECT random /* why */ ()", "not authorized to use function: random"),
        ("SELECT getenv('HOME')", "not authorized to use function: getenv"),
        ("SELECT * FROM range(10000000000)", "more than 100000 rows"),
        ("SELECT sum(a.range * b.range) FROM range(9999999) a, range(99999) b", "took longer than 0.5 s"),
        ("SELECT list(range) FROM range(1000000000)", "512 MB of memory"),
    ],
)  # fmt: skip
def test_a_query_that_goes_too_far_earns_nothing(sql, query, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verifier = Sql(dialect="duckdb", time_limit_s=0.5 if "took" in reason else 20)
    verdict = verifier.verify(problem(), answer(query))
    assert (verdict.valid, verdict.reward) == (True, 0), verdict.reason
    assert reason in verdict.reason
    assert verifier.verify(problem(), answer("SELECT a FROM t")).correct
    verifier.close()
    assert not list(tmp_path.iterdir())


def test_a_file_is_only_read(tmp_path):
    file = tmp_path / "shop.duckdb"
    script = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
    subprocess.run([sys.executable, "-c", script, file, SCHEMA], check=True)
    content = file.read_bytes()
    verifier = Sql(dialect="duckdb", dsn=str(file))
    bare = Problem(id="1", prompt="", answer="SELECT a FROM t")
    verifier.check([bare])
    assert verifier.verify(bare, answer("SELECT a FROM t")).correct
    assert not verifier.verify(bare, answer("DELETE FROM t")).correct
    verifier.close()
    assert file.read_bytes() == content
    missing = Sql(dialect="duckdb", dsn=str(tmp_path / "missing.duckdb"))
    with pytest.raises(ValueError, match=r"does not exist.*Mend verifier\.dsn"):
        missing.check([bare])
    missing.close()
    assert [path.name for path in tmp_path.iterdir()] == ["shop.duckdb"]


def test_a_fault_in_the_database_is_told_in_one_line(sql):
    with pytest.raises(
        ValueError, match=r"cannot be had: ParserException: .*Mend extra.schema_and_"
    ):
        sql.verify(problem(schema_and_data="CREATE TABEL x"), answer("SELECT 1"))
