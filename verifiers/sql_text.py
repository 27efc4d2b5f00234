"""What can be told of an SQL query by looking at its words: where it stands in a response, and whether it orders its rows."""

from __future__ import annotations

from collections.abc import Iterator

from rlsd_lightning.answers.extraction import extract_answer, fenced_block

_CLOSING = {"'": "'", '"': '"', "`": "`", "[": "]"}
"""What ends a text or a quoted name, by what begins it. Array brackets of DuckDB and PostgreSQL pass for a quoted name."""


def find_query(response: str, which: str = "last") -> str | None:
    r"""Return the query that a response gives; None where it gives none.

    The answer tag comes first, a fenced code block in it if there is one; without a tag, the response's own code block;
    without that, the response itself unless it is longer than an answer can be.

    Args:
        response: what the model wrote.
        which: of several answer tags or code blocks, the first or the last.

    Example:
        >>> find_query("<answer>\n```sql\nSELECT 1\n```\n</answer>")
        'SELECT 1'
        >>> find_query("So:\n```sql\nSELECT 2\n```\nDone.")
        'SELECT 2'
        >>> find_query("<answer>SELECT 3</answer>\n```sql\nSELECT 4\n```"), find_query("<answer></answer> SELECT 3")
        ('SELECT 3', '')
    """
    answer = extract_answer(response, which, ["answer"])
    block = fenced_block(response if answer is None else answer, which)
    if block is not None:
        return block.strip()
    return extract_answer(response, which, ["response"]) if answer is None else answer


def orders_rows(query: str) -> bool:
    """Whether a query has an ORDER BY of its own, not just one inside a subquery, a window or an aggregate.

    Args:
        query: SQL of any dialect.

    Example:
        >>> orders_rows("SELECT a FROM t ORDER  BY a"), orders_rows("SELECT 'order by' FROM t -- ORDER BY a")
        (True, False)
        >>> orders_rows("SELECT rank() OVER (ORDER BY a) FROM (SELECT a FROM t ORDER BY a)")
        False
    """
    depth, before = 0, ""
    for word in sql_words(query):
        depth += (word == "(") - (word == ")")
        if depth == 0 and (before, word) == ("order", "by"):
            return True
        before = word
    return False


def sql_words(query: str) -> Iterator[str]:
    """Yield words in lower case and other signs one by one, without blanks, comments, texts and quoted names.

    Args:
        query: SQL of any dialect; read once, each character a fixed number of times.

    Example:
        >>> list(sql_words("SELECT f(a1) /* x */ FROM 'it''s'"))
        ['select', 'f', '(', 'a1', ')', 'from']
    """
    index = 0
    while index < len(query):
        start, index = index, _end_of_word(query, index)
        if query[start].isalnum() or query[start] == "_":
            yield query[start:index].lower()
        elif index == start + 1 and not query[start].isspace():
            yield query[start]


def _end_of_word(query: str, start: int) -> int:
    """Return where a word, a comment or a quotation that begins at `start` ends; the next place for any other sign."""
    first, pair = query[start], query[start : start + 2]
    if first.isalnum() or first == "_":
        end = start + 1
        while end < len(query) and (query[end].isalnum() or query[end] in "_$"):
            end += 1
        return end
    if pair == "--":
        return _after(query, "\n", start)
    if pair == "/*":
        return _after(query, "*/", start + 2)
    if first in _CLOSING:
        return max(_after(query, _CLOSING[first], start + 1), start + 2)
    if first == "$":
        return _end_of_dollars(query, start)
    return start + 1


def _end_of_dollars(query: str, start: int) -> int:
    """Return where a text between dollars ends, as PostgreSQL and DuckDB have it ($$...$$, $tag$...$tag$)."""
    end = start + 1
    while end < len(query) and (query[end].isalnum() or query[end] == "_"):
        end += 1
    if end >= len(query) or query[end] != "$":
        return start + 1
    tag = query[start : end + 1]
    return _after(query, tag, end + 1)


def _after(query: str, mark: str, start: int) -> int:
    """Return the place after the next mark; the end where there is none."""
    found = query.find(mark, start)
    return len(query) if found < 0 else found + len(mark)
