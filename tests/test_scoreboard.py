import json
import math

import pytest

from rlsd_lightning import scoreboard
from rlsd_lightning.data.datamodule import Evaluation
from rlsd_lightning.prompts import PromptTemplate
from rlsd_lightning.responses import Response
from rlsd_lightning.scoring import Benchmark, Score
from rlsd_lightning.scoring.intervals import with_interval
from rlsd_lightning.types import Problem, Sampling

PROBLEMS = [Problem(id=name, prompt="?", answer=name) for name in "abcd"]


class Same(Benchmark):
    headline = "match"

    def score(self, problem, text):
        return Score(correct=text == problem.answer)

    def aggregate(self, samples):
        others = {"nothing": float("nan"), "wrong": 1.0}
        return others | with_interval("match", [sample.correct for sample in samples])


def evaluation(samples=1, **kwargs):
    metric = Same(samples_per_problem=samples)
    sampling = Sampling(max_completion_tokens=8)
    return Evaluation(
        problems=PROBLEMS, metric=metric, sampling=sampling, samples_per_problem=samples, **kwargs
    )


def responses(*texts, sample=0):
    return [
        Response(id=p.id, sample=sample, text=text, seconds=2.5)
        for p, text in zip(PROBLEMS, texts, strict=False)
    ]


def test_a_row_has_the_headline_its_interval_and_what_sampling_took():
    row = scoreboard.score("same", evaluation(), responses("a", "b", "c", "x"))
    assert (row.score, row.num_responses, row.seconds) == (0.75, 4, 10.0)
    assert row.interval == (row.numbers["match_low"], row.numbers["match_high"])
    assert row.cells()[:4] == ("same", "4", "match", "75.00")


def test_samples_are_taken_in_their_order_whatever_the_files():
    given = responses("a", "b", "c", "d", sample=1) + responses("x", "x", "x", "d")
    assert scoreboard.score("same", evaluation(samples=2), given).score == 5 / 8
    assert scoreboard.score("same", evaluation(samples=1), given).score == 1 / 4


def test_problems_without_response_are_told_and_left_out(caplog):
    row = scoreboard.score("same", evaluation(), responses("a", "x"))
    assert row.score == 0.5
    assert "2 of 4 problems have no response" in caplog.text


def test_a_response_to_no_problem_is_refused():
    stray = [Response(id="z", sample=0, text="")]
    with pytest.raises(ValueError, match="1 of its ids belong to no problem, such as z"):
        scoreboard.score("same", evaluation(), responses("a") + stray)


def test_the_tables_of_terminal_and_file_say_the_same(tmp_path):
    rows = [
        scoreboard.score("same", evaluation(), responses("a", "b", "c", "d")),
        scoreboard.score("empty", evaluation(), []),
    ]
    scoreboard.write(rows, tmp_path, about={"source": "here"})
    table = (tmp_path / "scores.md").read_text()
    assert "| same | 4 | match | 100.00 | 100.00 to 100.00 | 10 |" in table
    assert "| empty | 0 | match | - | - to - | 0 |" in table
    text = scoreboard.as_text(rows).splitlines()
    assert [line.split()[0] for line in text] == ["benchmark", "same", "empty"]
    assert text[0].index("number") == text[1].index("match")
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["about"] == {"source": "here"}
    assert written["scores"]["same"]["numbers"]["nothing"] is None
    assert math.isnan(rows[0].numbers["nothing"])


def test_what_responses_depend_on_names_the_prompt_that_was_used():
    template = PromptTemplate(
        student="{{ problem.prompt }}", teacher="{{ student }}{{ reference }}", system="Be brief."
    )
    own = scoreboard.describe(evaluation(prompt="Q: {{ problem.prompt }}"), template)
    assert own["prompt"] == "Q: {{ problem.prompt }}"
    runs = scoreboard.describe(evaluation(samples=2), template)
    assert runs["prompt"] == "{{ problem.prompt }}"
    assert runs["samples_per_problem"] == 2
    assert runs["sampling.max_completion_tokens"] == 8
    json.dumps(runs)
