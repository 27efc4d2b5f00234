"""Which charts a run gets."""

from pathlib import Path

from rlsd_lightning.report.curves import accuracy_chart, known_charts, other_charts
from rlsd_lightning.report.headline import facts, headline
from rlsd_lightning.report.held_out import held_out_series
from rlsd_lightning.report.load import Run

HELD_OUT = "val/shapes/accuracy"


def run_with(metrics, **summary):
    return Run(path=Path("run"), metrics=metrics, summary=summary)


def test_held_out_accuracy_goes_from_the_warm_start_to_the_final_evaluation():
    metrics = {"rollout/accuracy": {step: 0.5 for step in range(1, 81)}, HELD_OUT: {40: 0.6}}
    run = run_with(metrics, warm_start={HELD_OUT: 0.25}, final={HELD_OUT: 0.75})
    assert held_out_series(run, "accuracy")[0].points == [(0, 0.25), (40, 0.6), (80, 0.75)]
    assert headline(run) == "Held-out accuracy rose from 25.0% to 75.0%"


def test_a_loss_of_accuracy_is_called_one():
    assert (
        headline(run_with({HELD_OUT: {1: 0.5, 9: 0.4}}))
        == "Held-out accuracy fell from 50.0% to 40.0%"
    )
    assert headline(run_with({HELD_OUT: {1: 0.5, 9: 0.5}})) == "Held-out accuracy stayed at 50.0%"


def test_without_held_out_accuracy_the_headline_claims_nothing():
    assert headline(run_with({"loss/policy": {12: 0.0}})) == "12 steps of training"
    assert headline(run_with({})) == "Nothing was recorded yet"


def test_several_evaluators_get_a_colour_each_and_the_headline_names_its_own():
    run = run_with({"val/a/accuracy": {1: 0.1, 2: 0.2}, "val/b/accuracy": {1: 0.3, 2: 0.4}})
    assert [s.label for s in accuracy_chart(run).series] == ["held out: a", "held out: b"]
    assert len({s.tone for s in accuracy_chart(run).series}) == 2
    assert headline(run) == "Accuracy (held out: a) rose from 10.0% to 20.0%"


def test_charts_without_data_are_named_and_unknown_metrics_get_one_each():
    metrics = {
        "rollout/reward_mean": {1: 0.5},
        "loss/entropy": {1: float("nan")},
        "teacher/version": {1: 0.0},
        "val/shapes/format": {1: 0.9},
    }
    run = run_with(metrics)
    charts, absent = known_charts(run)
    assert [chart.title for chart in charts] == ["Reward"]
    assert {"Entropy", "Leakage", "Lambda", "Tokens per second"} <= set(absent)
    assert [chart.title for chart in other_charts(run)] == ["teacher/version", "val/shapes/format"]


def test_tiles_say_how_far_an_interrupted_run_came():
    run = run_with(
        {"rollout/reward_mean": {step: step / 47 for step in range(1, 48)}},
        max_steps=100,
        seconds=75,
    )
    tiles = {fact.name: fact for fact in facts(run)}
    assert (tiles["optimizer steps"].value, tiles["optimizer steps"].note) == (
        "47",
        "of 100 planned, in 1 min 15 s",
    )
    # First tenth: steps 1-4, mean 2.5/47 = 0.05; last: 44-47, mean 45.5/47 = 0.97.
    assert (tiles["reward in training"].before, tiles["reward in training"].value) == (
        "0.05",
        "0.97",
    )
