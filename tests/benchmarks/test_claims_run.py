"""The plan of the comparison, and a crew that works a small part of it off for real."""

import shutil

import pytest
from hydra import compose, initialize_config_module

from benchmarks.claims.collect import read_runs
from benchmarks.claims.plan import (
    LONG_TASKS,
    RATES,
    TUNED,
    USUAL_RATE,
    Sweep,
    ablation_sweeps,
    best_rates,
    long_sweeps,
    main_sweeps,
    rate_sweeps,
)
from benchmarks.claims.run import Crew, RunFailedError
from rlsd_lightning.config import validate
from tests.helpers.workplace import make_workplace

RATES_OF = {(task, label): RATES[0] for task in LONG_TASKS for label in TUNED}
SWEEPS = [
    *rate_sweeps(),
    *long_sweeps(5, RATES_OF),
    *main_sweeps(5),
    *ablation_sweeps(5),
]
SMALL = (
    "verify_gold_problems=0",
    "rollout.problems_per_step=2",
    "rollout.group_size=2",
    "rollout.sampling.max_completion_tokens=8",
    "trainer.max_steps=2",
    "trainer.val_check_interval=1",
    "prepare=none",
)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_every_sweep_of_the_plan_composes_and_validates(sweep):
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        words = ["experiment=claims", f"claims/task={sweep.task}", *sweep.overrides]
        validate(compose("config", words), "fit")


def test_no_two_sweeps_share_a_folder():
    names = [sweep.name for sweep in SWEEPS]
    assert len(set(names)) == len(names)


def test_a_rate_is_not_chosen_by_a_seed_that_is_reported():
    tuning = {seed for sweep in rate_sweeps() for seed in sweep.seeds}
    reported = {seed for sweep in long_sweeps(9, RATES_OF) for seed in sweep.seeds}
    assert tuning
    assert not tuning & reported


def test_the_usual_rate_is_the_experiments():
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        assert compose("config", ["experiment=claims"]).optim.lr == float(USUAL_RATE)


def test_the_rate_with_the_highest_mean_wins_and_the_smaller_one_of_equals():
    finals = {
        ("t", "a", "8e-4"): [0.9, 0.1],
        ("t", "a", "2e-4"): [0.6, 0.6],
        ("t", "a", "4e-4"): [0.6, 0.6],
        ("t", "b", "8e-4"): [0.7],
    }
    assert best_rates(finals) == {("t", "a"): "2e-4", ("t", "b"): "8e-4"}


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crew")
    make_workplace(folder)
    return Crew(folder / "runs", folder / "data", num_workers=2)


def small(label, *overrides, seeds=(1, 2)):
    return Sweep(
        study="main", task="shapes", label=label, overrides=(*SMALL, *overrides), seeds=seeds
    )


@pytest.mark.slow
def test_a_crew_makes_the_runs_that_are_missing_and_they_can_be_collected(crew):
    first, second = small("grpo", "credit=grpo", "callbacks.lambda_decay=null"), small("rlsd")
    crew.work([first, second])
    assert len(crew.final_accuracies(first)) == 2
    written = (crew.folder(first, 1) / "summary.json").stat().st_mtime_ns
    shutil.rmtree(crew.folder(first, 2))
    crew.work([first, second])
    assert (crew.folder(first, 2) / "finished").exists()
    assert (crew.folder(first, 1) / "summary.json").stat().st_mtime_ns == written
    runs = read_runs(crew.runs / "claims")
    assert sorted(run.arm for run in runs) == ["main/shapes/grpo"] * 2 + ["main/shapes/rlsd"] * 2


def test_a_run_that_fails_is_told_with_its_command(crew):
    with pytest.raises(RunFailedError, match=r"(?s)claims/main/shapes/bad failed.*optim\.lr=fast"):
        crew.work([small("bad", "optim.lr=fast")])
