"""Questions and their queries: what is asked, what runs, and that rows tell right from wrong."""

import random
import sqlite3
from contextlib import closing
from itertools import islice

import pytest

from rlsd_lightning.quickstart.company import DATABASE
from rlsd_lightning.quickstart.queries import Condition, Query
from rlsd_lightning.quickstart.questions import Question, Questions, is_told_apart
from rlsd_lightning.quickstart.text_model import build_text_tokenizer

QUESTIONS = list(islice(Questions().draw(0), 300))
ROME, OVER = Condition("city", "=", "Rome"), Condition("age", ">=", 40)


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    folder = tmp_path_factory.mktemp("company")
    Questions().write_files(folder, seed=0)
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("query", "question", "response"),
    [
        (
            Query("staff", "AVG", "pay", (ROME, OVER)),
            "average pay of staff in Rome aged at least 40",
            "<thought>staff city age</thought>"
            "<answer>SELECT AVG(pay) FROM staff WHERE city = 'Rome' AND age >= 40</answer>",
        ),
        (
            Query("staff", "", "name", (ROME,), by_pay=True),
            "names of staff in Rome, best paid first",
            "<thought>staff city</thought>"
            "<answer>SELECT name FROM staff WHERE city = 'Rome' ORDER BY pay DESC</answer>",
        ),
        (
            Query("sales", "COUNT", "*", (Condition("year", "<", 2024), Condition("team", "=", "red"))),
            "number of sales before 2024 on team red",
            "<thought>sales year team</thought><answer>SELECT COUNT(*) FROM sales JOIN staff ON seller = name "
            "WHERE year < 2024 AND team = 'red'</answer>",
        ),
    ],
)  # fmt: skip
def test_questions_by_hand(query, question, response):
    assert Question(query).question == question
    assert Question(query).respond() == response
    assert response.endswith(f"<answer>{Question(query).answer}</answer>")


def test_slips_by_hand():
    query = Query("staff", "MAX", "pay", (ROME, OVER))
    assert [slip.sql for slip in query.slips] == [
        "SELECT MAX(pay) FROM staff WHERE team = 'Rome' AND age >= 40",
        "SELECT MAX(pay) FROM staff WHERE age >= 40",
        "SELECT MAX(pay) FROM staff WHERE city = 'Rome' AND age > 40",
        "SELECT MAX(pay) FROM staff WHERE city = 'Rome'",
        "SELECT MIN(pay) FROM staff WHERE city = 'Rome' AND age >= 40",
    ]
    listed = Query("staff", "", "name", (), by_pay=True)
    assert [slip.sql for slip in listed.slips] == ["SELECT name FROM staff ORDER BY pay"]
    sold = Query("sales", "", "item", (Condition("region", "=", "east"),))
    assert [slip.sql for slip in sold.slips] == [
        "SELECT item FROM sales WHERE item = 'east'",
        "SELECT item FROM sales",
    ]


def rows(connection, query):
    found = connection.execute(query.sql).fetchall()
    return found if query.by_pay else sorted(found)


def test_rows_tell_every_question_from_its_slips(company):
    for question in QUESTIONS:
        gold = rows(company, question.query)
        assert gold not in ([], [(None,)])
        assert all(rows(company, slip) != gold for slip in question.query.slips)


def test_what_returns_nothing_or_the_same_after_a_slip_is_not_asked():
    oldest = Query("staff", "MAX", "age", (Condition("age", ">", 40),))
    nobody = Query("staff", "", "name", (Condition("age", ">=", 50),))
    with closing(sqlite3.connect(":memory:")) as company:
        company.execute("CREATE TABLE staff (name, team, city, pay, age)")
        company.execute("INSERT INTO staff VALUES ('Ann', 'red', 'Rome', 20, 40)")
        assert not is_told_apart(nobody, company)  # nor does a slip find anybody
        company.execute("INSERT INTO staff VALUES ('Ben', 'red', 'Rome', 20, 50)")
        company.execute("INSERT INTO staff VALUES ('Cleo', 'red', 'Rome', 20, 60)")
        youngest = Query("staff", "MIN", "age", oldest.conditions)
        assert is_told_apart(youngest, company)  # 50; after a slip 40, 40 or 60
        assert not is_told_apart(oldest, company)  # 60, with >= as well
        above = Query("staff", "", "name", (Condition("age", ">", 60),))
        assert not is_told_apart(above, company)  # finds nobody, and each slip somebody


def test_a_forgotten_order_is_a_slip():
    rng, query = random.Random(0), Query("staff", "", "name", (), by_pay=True)
    slips = [query.with_slips(0.25, rng).sql.endswith("pay") for _ in range(1000)]
    assert sum(slips) / len(slips) == pytest.approx(0.25, abs=0.05)


def test_slips_are_as_frequent_as_asked():
    rng = random.Random(0)
    assert all(q.respond_sloppily(0.0, rng) == q.respond() for q in QUESTIONS)
    single = [Question(Query("sales", "COUNT", "*", (Condition("item", "=", "lamp"),)))] * 1000
    right = [q.respond_sloppily(0.2, rng) == q.respond() for q in single]
    # Its one condition is neither wrong, 0.8, nor left out, 0.9; one standard deviation is 0.014.
    assert sum(right) / len(right) == pytest.approx(0.72, abs=0.05)


def test_sloppy_queries_run(company):
    rng = random.Random(0)
    for question in QUESTIONS:
        sql = question.respond_sloppily(0.5, rng).split("<answer>")[1].removesuffix("</answer>")
        company.execute(sql).fetchall()


def test_questions_are_distinct_and_the_same_for_a_seed():
    assert len(set(QUESTIONS)) == len({question.question for question in QUESTIONS}) == 300
    assert list(islice(Questions().draw(0), 300)) == QUESTIONS
    assert list(islice(Questions().draw(1), 300)) != QUESTIONS


def test_questions_and_queries_survive_tokenising_and_are_short():
    tokenizer = build_text_tokenizer(Questions().words)
    rng = random.Random(0)
    for question in QUESTIONS:
        for text in (question.question, question.respond(), question.respond_sloppily(0.5, rng)):
            assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer.encode(question.question)) <= 12
        assert len(tokenizer.encode(question.respond())) < 48 - 1  # the limit of a run, and the end


def test_every_fact_is_one_token():
    tokenizer = build_text_tokenizer(Questions().words)
    assert all(len(tokenizer.encode(fact)) == 1 for fact in Questions().facts)
