"""Training with rollouts that are made beside it, one step ahead, by an engine that stands for one elsewhere."""

import csv
import json
import math

import pytest

from tests.helpers.workplace import SMALL, STEPS

OVERLAP = (
    "fit",
    *(word for word in SMALL if not word.startswith("trainer.val_check_interval")),
    "trainer.val_check_interval=2",
    "engine._target_=my_plugins.EngineElsewhere",
    "engine.shares_policy_weights=false",
    "rollout.overlap=true",
    "rollout.max_policy_lag=1",
    "loss.importance_cap=2.0",
)
"""With evaluations in between, which use the same engine."""


def steps(workplace, runs):
    """Read what was logged of every step, before and after a resume."""
    rows = []
    for path in sorted((workplace / runs).rglob("metrics.csv")):
        with path.open() as file:
            rows += [row for row in csv.DictReader(file) if row["loss/policy"]]
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def test_a_run_with_overlap_learns_from_rollouts_one_step_old(workplace, rlsd):
    done = rlsd(*OVERLAP, "trainer.max_steps=3", "paths.runs=overlap")
    assert done.returncode == 0, done.stderr
    rows = steps(workplace, "overlap")
    assert [row["rollout/policy_lag_max"] for row in rows] == [0, 1, 1]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    # The truncated weights of importance sampling: 1 for weights of the step itself, as engine and trainer compute
    # alike here, and not 1 for those of the step before.
    off = [abs(row["loss/importance_max"] - 1) for row in rows]
    assert off[0] < 1e-4
    assert min(off[1:]) > 1e-3
    for number, row in enumerate(rows):
        assert row["time/rollout_wait_s"] >= 0
        made = row["ahead/rollout_s"] if number else row["time/rollout_s"]
        assert made > 0
        assert (row["time/rollout_s"] == 0) == (number > 0)
        told = {"time/step_s", "time/tokens_per_s"}
        phases = [row[name] for name in row if name.startswith("time/") and name not in told]
        assert row["time/step_s"] == pytest.approx(sum(phases))


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_problems(workplace, rlsd):
    interrupt = (
        "+callbacks.interrupt={_target_: my_plugins.SignalOnce, after_batches: 5, number: SIGINT, "
        "marker: overlap_stopped.marker}"
    )
    words = (*OVERLAP, interrupt, "paths.runs=overlap_stopped")
    stopped = rlsd(*words)
    assert "Stopped after step 3 of 6" in stopped.stderr
    resumed = rlsd(*words)
    assert resumed.returncode == 0, resumed.stderr
    lags = [row["rollout/policy_lag_max"] for row in steps(workplace, "overlap_stopped")]
    assert lags == [0, 1, 1, 0, 1, 1]  # the first step after the resume is sampled anew
    straight = rlsd(*OVERLAP, "paths.runs=overlap_straight")
    assert straight.returncode == 0, straight.stderr
    assert recorded(workplace, "overlap_stopped") == recorded(workplace, "overlap_straight")


def recorded(workplace, runs):
    """The problems of each step."""
    files = sorted((workplace / runs).rglob("step_*.jsonl"))
    assert len(files) == STEPS
    return [
        sorted(json.loads(line)["problem_id"] for line in file.read_text().splitlines())
        for file in files
    ]
