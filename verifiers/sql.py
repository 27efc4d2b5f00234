r"""Whether a query returns what the gold query returns, both run on the problem's database.

The gold query is `problem.answer`; the database is made afresh for every query from `extra["schema_and_data"]`, or is
there already (`extra["dsn"]`), where it is only read. Results are compared as bags of rows (rlsd_lightning.verifiers.sql_rows);
their order counts only where the gold query itself has an ORDER BY. What a result on one database cannot tell apart from
the gold query is right: a constant in the place of a query, if it is the right one; any query without rows where the gold
query has none. Data that tells questions apart is the remedy, so such gold queries are told of at the start.

Queries run in a process of their own under limits (rlsd_lightning.verifiers.sql_runner). A query that is no SQL, that does more
than read, or that exceeds a limit earns nothing; a gold query in such trouble is not judged.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlsd_lightning.answers.extraction import check_extraction
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verifiers.sql_rows import same_result
from rlsd_lightning.verifiers.sql_runner import (
    DIALECTS,
    Database,
    DatabaseError,
    QueryRunner,
    Result,
)
from rlsd_lightning.verifiers.sql_text import find_query, orders_rows, sql_words
from rlsd_lightning.verifiers.verdicts import not_judged, quoted

log = logging.getLogger(__name__)

MAX_CHARS = 10_000
"""A longer query of a response is wrong unread."""
_MAX_KEPT_VALUES = 2_000_000
"""Values in all gold results that are kept at a time; without them, gold queries are run again."""
_SHOWN = 5


class Sql:
    r"""Right if the response's query returns the same rows as the gold query, `problem.answer`.

    The query stands in the answer tag or in a fenced code block (rlsd_lightning.verifiers.sql_text). Beside reward and
    correctness a verdict has two parts: "executed", whether the query ran to its end, and "stopped", whether a limit
    ended it.

    A problem's own `extra` comes before the arguments: "schema_and_data", "dsn", "dialect", "time_limit_s", and
    "ordered" (true or false: whether the order of rows counts, whatever the gold query says).

    Args:
        dialect: sqlite, duckdb or postgresql. The last two need their package (`pip install rlsd-lightning[duckdb]` or
            `[postgresql]`).
        schema_and_data: statements that make the database of problems without their own.
        dsn: of a database that is there already: its file, or PostgreSQL's connection string. PostgreSQL is asked in
            transactions that only read, by a role that is no superuser.
        time_limit_s: for one query; processor time on SQLite, else by the clock. What shows no sign of ending is killed
            before twice that and half a second have passed.
        memory_mb: what one query may take, in MiB.
        max_rows: a query that returns more is stopped.
        any_column_order: whether columns may stand in another order than the gold query's.
        which: of several answer tags or code blocks, the first or the last.

    Example:
        >>> problem = Problem(id="1", prompt="", answer="SELECT max(a) FROM t", extra={
        ...     "schema_and_data": "CREATE TABLE t(a); INSERT INTO t VALUES (1), (3);"})
        >>> Sql().verify(problem, "<answer>SELECT a FROM t ORDER BY a DESC LIMIT 1</answer>").correct
        True
        >>> Sql().verify(problem, "<answer>SELECT b FROM t</answer>").reason
        "wrong: got 'SELECT b FROM t', which fails: OperationalError: no such column: b"
    """

    def __init__(
        self,
        *,
        dialect: str = "sqlite",
        schema_and_data: str | None = None,
        dsn: str | None = None,
        time_limit_s: float = 2.0,
        memory_mb: int = 512,
        max_rows: int = 100_000,
        any_column_order: bool = False,
        which: str = "last",
    ) -> None:
        if dialect not in DIALECTS:
            raise ValueError(
                f"Sql: dialect is {dialect!r}, but it must be one of {', '.join(DIALECTS)}. Set one of them."
            )
        for name, value in (
            ("time_limit_s", time_limit_s),
            ("memory_mb", memory_mb),
            ("max_rows", max_rows),
        ):
            if value <= 0:
                raise ValueError(
                    f"Sql: {name} is {value}, but it must be more than 0. Keep the default if in doubt."
                )
        check_extraction("Sql", which, ["answer"])
        self.dialect = dialect
        self.schema_and_data = schema_and_data
        self.dsn = dsn
        self.time_limit_s = time_limit_s
        self.memory_mb = memory_mb
        self.max_rows = max_rows
        self.any_column_order = any_column_order
        self.which = which
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def _begin(self) -> None:
        """Have no process and no result yet; a copy in another process begins in the same way."""
        self._runners: dict[str, QueryRunner] = {}
        self._lock = threading.Lock()
        self._gold: OrderedDict[tuple[str, Database, str], Result] = OrderedDict()
        self._num_kept = 0
        self._num_without_rows = 0

    def close(self) -> None:
        """End the processes that run queries; another query starts them again."""
        for runner in self._runners.values():
            runner.close()

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge `response` against the gold query's result."""
        settings = _Settings(self, problem)
        if not problem.answer.strip():
            return not_judged("there is no gold query")
        gold = self._gold_result(settings, problem)
        if gold.kind != "rows":
            return not_judged(f"the gold query {quoted(problem.answer)} {_trouble(gold)}")
        query = find_query(response, self.which)
        if query is None or not any(sql_words(query)):
            return _verdict("no query found")
        if len(query) > MAX_CHARS:
            return _verdict(f"wrong: a query of {len(query)} characters, more than {MAX_CHARS}")
        got = self._run(settings, problem, query)
        if got.kind != "rows":
            return _verdict(f"wrong: got {quoted(query)}, which {_trouble(got)}", got.kind)
        correct = same_result(
            got.rows,
            gold.rows,
            ordered=settings.ordered,
            any_column_order=self.any_column_order,
        )
        seen = f"got {_table(got)} by {quoted(query)}, wanted {_table(gold)}"
        return _verdict(f"{'right' if correct else 'wrong'}: {seen}", got.kind, correct)

    def what_counts(self, problem: Problem, response: str) -> str | None:
        """Return the query: responses with the same one get the same verdict."""
        return find_query(response, self.which)

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether every problem has a database and a gold query that runs on it.

        Args:
            problems: all there are; read once.

        Raises:
            ValueError: some have not; the message names the first few and says how many they are.
        """
        faults: list[str] = []
        num_faults = 0
        for problem in problems:
            fault = self._fault(problem)
            num_faults += bool(fault)
            if fault and len(faults) < _SHOWN:
                faults.append(fault)
        if num_faults:
            raise ValueError(
                f"{num_faults} problems have no gold query that runs:\n"
                + "\n".join(f"  {fault}" for fault in faults)
                + "\nMend the database or the query in the data set."
            )

    def _fault(self, problem: Problem) -> str:
        """Return what is wrong with a problem's gold query, with its place; warn of one that returns nothing."""
        try:
            gold = self._gold_result(_Settings(self, problem), problem)
        except ValueError as error:
            return str(error)
        if gold.kind != "rows":
            return f"{problem.place}: the gold query {quoted(problem.answer)} {_trouble(gold)}"
        if not gold.rows:
            self._num_without_rows += 1
            if self._num_without_rows <= _SHOWN:
                log.warning(
                    "verifier: the gold query of %s returns no row, so that any query without rows is right. Add data "
                    "that it finds%s.",
                    problem.place,
                    "; further ones are not told" if self._num_without_rows == _SHOWN else "",
                )
        return ""

    def _gold_result(self, settings: _Settings, problem: Problem) -> Result:
        """Return the gold query's result, kept from an earlier time if there is room."""
        key = (settings.dialect, settings.database, problem.answer)
        with self._lock:
            if key in self._gold:
                self._gold.move_to_end(key)
                return self._gold[key]
        result = self._run(settings, problem, problem.answer)
        with self._lock:
            if result.kind == "rows" and key not in self._gold:
                self._gold[key] = result
                self._num_kept += _num_values(result)
            while self._num_kept > _MAX_KEPT_VALUES and len(self._gold) > 1:
                _, oldest = self._gold.popitem(last=False)
                self._num_kept -= _num_values(oldest)
        return result

    def _run(self, settings: _Settings, problem: Problem, query: str) -> Result:
        with self._lock:
            if settings.dialect not in self._runners:
                _require(settings.dialect)
                self._runners[settings.dialect] = QueryRunner(
                    settings.dialect, self.memory_mb, self.max_rows
                )
            runner = self._runners[settings.dialect]
        try:
            return runner.run(settings.database, query, settings.time_limit_s)
        except DatabaseError as error:
            raise ValueError(
                f"{problem.place}: its {settings.dialect} database cannot be had: {error}. Mend "
                f"{settings.database_key}."
            ) from error


class _Settings:
    """What holds for one problem: its own `extra` before the verifier's arguments.

    Args:
        verifier: whose arguments stand in for what the problem does not say.
        problem: which one.

    Raises:
        ValueError: something that the problem says makes no sense, or there is no database.
    """

    def __init__(self, verifier: Sql, problem: Problem) -> None:
        own = problem.extra
        self.dialect = own.get("dialect", verifier.dialect)
        self.time_limit_s = own.get("time_limit_s", verifier.time_limit_s)
        ordered = own.get("ordered")
        self.ordered = orders_rows(problem.answer) if ordered is None else ordered
        schema, dsn = own.get("schema_and_data"), own.get("dsn")
        where = "extra."
        if schema is None and dsn is None:
            schema, dsn, where = verifier.schema_and_data, verifier.dsn, "verifier."
        fault = _fault(self.dialect, self.time_limit_s, ordered, schema, dsn)
        if fault:
            raise ValueError(f"{problem.place}: {fault}")
        if self.dialect != "postgresql" and dsn:
            dsn = str(Path(dsn).expanduser().resolve())
        self.database = Database(schema=schema or "", dsn=dsn or "")
        self.database_key = where + ("dsn" if dsn else "schema_and_data")


def _fault(dialect: Any, time_limit_s: Any, ordered: Any, schema: Any, dsn: Any) -> str:
    """Return what is wrong with a problem's settings; nothing if they make sense."""
    if dialect not in DIALECTS:
        return f"extra.dialect is {dialect!r}, but Sql knows {', '.join(DIALECTS)}. Mend it there."
    if (
        isinstance(time_limit_s, bool)
        or not isinstance(time_limit_s, int | float)
        or time_limit_s <= 0
    ):
        return f"extra.time_limit_s is {time_limit_s!r}, but it must be a number of seconds above 0. Mend it there."
    if ordered not in (None, True, False):
        return f"extra.ordered is {ordered!r}, but it must be true or false. Mend it there."
    if dialect == "postgresql" and (schema or not isinstance(dsn, str) or not dsn):
        return (
            "postgresql needs extra.dsn or verifier.dsn, a connection string, and no schema_and_data: it reads a "
            "database that is there. Give it its dsn."
        )
    given = [value for value in (schema, dsn) if value is not None]
    if len(given) != 1 or not isinstance(given[0], str):
        return (
            f"schema_and_data is {_shape(schema)} and dsn is {_shape(dsn)}, but a query needs one of them, as a text: "
            f"statements that make a database, or where one is. Give extra.schema_and_data or extra.dsn."
        )
    return ""


def _require(dialect: str) -> None:
    """Refuse a dialect whose package is missing."""
    package = DIALECTS[dialect]
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"Sql: dialect is {dialect!r}, which needs the package {package}, but it is not installed. Install it: "
            f"pip install rlsd-lightning[{dialect}]."
        )


def _shape(value: Any) -> str:
    """Say what kind of thing a value is, and not what: a dsn may hold a password."""
    return "not given" if value is None else f"given as {type(value).__name__}"


def _verdict(reason: str, kind: str = "error", correct: bool = False) -> Verdict:
    parts = {"executed": float(kind == "rows"), "stopped": float(kind == "stopped")}
    return Verdict(reward=float(correct), correct=correct, parts=parts, reason=reason)


def _trouble(result: Result) -> str:
    detail = ascii(result.detail)[1:-1].replace("\\'", "'")
    return f"fails: {detail[:160]}" if result.kind == "error" else detail


def _table(result: Result) -> str:
    columns = len(result.rows[0]) if result.rows else 0
    rows = len(result.rows)
    first = f", first {quoted(repr(result.rows[0]), limit=60)}" if rows else ""
    return f"{rows} x {columns}{first}" if rows else "no row"


def _num_values(result: Result) -> int:
    return 1 + sum(len(row) for row in result.rows)
