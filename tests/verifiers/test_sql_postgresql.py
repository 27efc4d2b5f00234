"""Queries on a PostgreSQL server, started here; skipped where there is none."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from rlsd_lightning.types import Problem
from rlsd_lightning.verifiers.sql import Sql

psycopg = pytest.importorskip("psycopg", reason="needs pip install rlsd-lightning[postgresql]")
SCHEMA = """
CREATE TABLE t(a INTEGER, b TEXT, c NUMERIC, d DATE);
INSERT INTO t VALUES (1, 'x', 1.50, '2020-01-01'), (2, 'y', 2, NULL);
CREATE SEQUENCE numbers;
CREATE ROLE reader LOGIN;
GRANT SELECT ON t TO reader;
GRANT USAGE ON SEQUENCE numbers TO reader;
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The folder of a server's socket."""
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("needs a PostgreSQL server on this machine")
    tools = Path(found).resolve().parent
    folder = tmp_path_factory.mktemp("pg")
    as_owner = []
    if os.geteuid() == 0:  # the server refuses to run as root
        for path in (folder, *folder.parents[:2]):
            path.chmod(0o777 if path == folder else 0o755)
        as_owner = ["runuser", "-u", "postgres", "--"]

    def run(tool, *words):
        done = subprocess.run(
            [*as_owner, tools / tool, "-D", folder / "data", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout

    run("initdb", "-U", "owner", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run("pg_ctl", "-w", "-l", folder / "log", "-o", options, "start")
    with psycopg.connect(f"host={folder} user=owner dbname=postgres", autocommit=True) as owner:
        owner.execute(SCHEMA)
    yield folder
    run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def sql(server):
    verifier = Sql(dialect="postgresql", dsn=f"host={server} user=reader dbname=postgres")
    yield verifier
    verifier.close()


def problem(gold="SELECT a FROM t", **extra):
    return Problem(id="q1", prompt="", answer=gold, extra=extra, location="train.jsonl:7")


def answer(query):
    return f"<answer>\n```sql\n{query}\n```\n</answer>"


@pytest.mark.parametrize(
    ("gold", "query", "correct"),
    [
        ("SELECT a FROM t", "SELECT a FROM t ORDER BY 1 DESC;", True),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", False),
        ("SELECT c, d FROM t", "SELECT c::float, d::text FROM t", True),
        ("SELECT count(*) FROM t", "SELECT count(*)::int FROM t WHERE b LIKE '%'", True),
        ("SELECT true, 'x'::bytea", "SELECT 1, 'x'::bytea", True),
        ("SELECT ARRAY[1, 2]", "SELECT ARRAY[2, 1]", False),
        ("SELECT 1", "WITH x AS (SELECT 1) SELECT * FROM x", True),
    ],
)
def test_results_are_compared(sql, gold, query, correct):
    verdict = sql.verify(problem(gold), answer(query))
    assert verdict.valid, verdict.reason
    assert verdict.correct == correct, verdict.reason


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("DELETE FROM t RETURNING a", "read-only transaction"),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x", "read-only transaction"),
        ("CREATE TABLE u(a INTEGER)", "read-only transaction"),
        ("SELECT nextval('numbers')", "read-only transaction"),
        ("SELECT a FROM t; SELECT a FROM t", "multiple commands"),
        ("COMMIT; DROP TABLE t", "multiple commands"),
        ("SET TRANSACTION READ WRITE", "fails"),
        ("COMMIT", "fails"),
        ("COPY t TO '/tmp/verifiercanary'", "fails"),
        ("COPY t TO PROGRAM 'id'", "fails"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("SELECT pg_ls_dir('/')", "permission denied"),
        (
            "SELECT lo_export(1, '/tmp/verifiercanary')",
            "permission denied|does not exist|read-only",
        ),
        ("SELECT rolpassword FROM pg_authid", "permission denied"),
        ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity", "not authorized"),
        ("SELECT random()", "not authorized"),
        ("SELECT generate_series(1, 10000000)", "more than 100000 rows"),
        ("SELECT repeat('x', 900000) FROM generate_series(1, 99)", "characters"),
        ("SELECT pg_sleep(9)", "took longer than 0.3 s"),
        ("SELECT sum(a) FROM generate_series(1, 10000000000) a", "took longer than 0.3 s"),
        ("SELECT '\ud800'", "UnicodeEncodeError"),
        ("SELECT a FROM t\0", "null character"),
    ],
)
def test_a_query_that_goes_too_far_earns_nothing(sql, query, reason):
    verdict = sql.verify(problem(time_limit_s=0.3 if "took" in reason else 20), answer(query))
    assert (verdict.valid, verdict.reward) == (True, 0), verdict.reason
    assert any(word in verdict.reason for word in reason.split("|")), verdict.reason
    assert sql.verify(problem(), answer("SELECT a FROM t")).correct


def test_a_superuser_is_refused(server):
    verifier = Sql(dialect="postgresql", dsn=f"host={server} user=owner dbname=postgres")
    with pytest.raises(ValueError, match=r"train.jsonl:7.*superuser.*Mend verifier.dsn"):
        verifier.check([problem()])
    verifier.close()


def test_a_server_that_is_not_there_is_told_and_its_password_is_not(server):
    verifier = Sql(dialect="postgresql")
    away = problem(dsn=f"host={server}/nowhere user=reader password=hunter2")
    with pytest.raises(ValueError, match=r"cannot be had.*Mend extra.dsn") as caught:
        verifier.verify(away, answer("SELECT 1"))
    assert "hunter2" not in str(caught.value)
    verifier.close()


def test_a_server_that_goes_away_is_no_wrong_answer(server, sql):
    def end_all():
        time.sleep(0.5)
        with psycopg.connect(f"host={server} user=owner dbname=postgres", autocommit=True) as owner:
            owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'"
            )

    ending = threading.Thread(target=end_all)
    sql.verify(problem(), answer("SELECT 1"))
    ending.start()
    with pytest.raises(ValueError, match=r"cannot be had.*terminating connection"):
        sql.verify(problem(time_limit_s=9), answer("SELECT pg_sleep(5)"))
    ending.join()
    assert sql.verify(problem(), answer("SELECT a FROM t")).correct
