"""summary.json is written whole, goes on after a resume, and ends in three lines."""

import json
from pathlib import Path

from rlsd_lightning.summary import Summary, closing_words


def test_later_values_replace_earlier_ones(tmp_path):
    summary = Summary(tmp_path / "summary.json")
    summary.write(command="fit", finished=False)
    summary.write(finished=True, final={"val/shapes/accuracy": 0.5})
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "command": "fit",
        "finished": True,
        "final": {"val/shapes/accuracy": 0.5},
    }


def test_a_resumed_run_goes_on_with_what_it_finds(tmp_path):
    Summary(tmp_path / "summary.json").write(warm_start={"val/shapes/accuracy": 0.2})
    resumed = Summary(tmp_path / "summary.json")
    resumed.write(finished=True)
    assert resumed.values == {"warm_start": {"val/shapes/accuracy": 0.2}, "finished": True}
    assert json.loads((tmp_path / "summary.json").read_text()) == resumed.values


def test_nothing_but_the_file_is_left_behind(tmp_path):
    Summary(tmp_path / "summary.json").write(name="caf\u00e9")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert "caf\u00e9" in (tmp_path / "summary.json").read_text(encoding="utf-8")


def test_the_closing_words_say_what_was_learnt_where_and_what_to_look_at():
    summary = {
        "max_steps": 80,
        "seconds": 192.4,
        "warm_start": {"val/shapes/accuracy": 0.25, "val/shapes/leakage": 0.0},
        "final": {"val/shapes/accuracy": 0.875, "val/shapes/leakage": 0.1, "val/new/accuracy": 1.0},
    }
    assert closing_words(summary, Path("runs/a"), Path("runs/a/report.html")).splitlines() == [
        "Learnt in 80 steps, 192 s: shapes accuracy 25.0% -> 87.5%.",
        "Everything of this run is in runs/a.",
        "Open runs/a/report.html in a browser: curves, settings, and samples with their tokens coloured by credit.",
    ]


def test_the_closing_words_without_an_evaluation_say_so():
    summary = {"max_steps": 1, "seconds": 1.0, "warm_start": {}, "final": {}}
    words = closing_words(summary, Path("run"), Path("report.html")).splitlines()
    assert words[0] == "Learnt in 1 steps, 1 s: no evaluation was asked for (evaluators=none)."
    assert len(words) == 3


def test_only_the_writer_of_several_ranks_writes_the_file(tmp_path):
    other = Summary(tmp_path / "summary.json", is_writer=False)
    other.write(max_steps=3)
    assert other.values == {"max_steps": 3}
    assert not (tmp_path / "summary.json").exists()
