"""vLLM in the processes of a run with two ranks: one engine each, one for both, one that fails."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rlsd_lightning.checkpoints import open_checkpoint
from tests.helpers.vllm_case import EXACT
from tests.helpers.workplace import SMALL, make_workplace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "helpers"
STEPS = 5
COMMON = (
    *SMALL[1:],
    "rollout.problems_per_step=8",
    "rollout.group_size=8",
    f"trainer.max_steps={STEPS}",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.devices=2",
    "evaluators.held_out.samples_per_problem=64",
)
VLLM = ("engine=vllm", "engine.max_model_len=512", "engine.kv_cache_gb=0.03")
RUNS = {
    "plain": ("trainer=ddp",),
    "ddp": ("trainer=ddp", *VLLM),
    "lora": ("trainer=ddp", *VLLM, "model.lora={rank: 4, alpha: 8}"),
    "zero3": ("trainer=deepspeed_zero3", *VLLM),
    "fsdp2": ("trainer=fsdp2", *VLLM),
    "shared": ("trainer=ddp", *VLLM, "engine.tensor_parallel_size=2"),
}
WITH_VLLM = [name for name in RUNS if name != "plain"]
FAILURES = {"load_weights": "zero3", "probe": "zero3", "rollouts": "ddp"}
"""Where an engine fails, under the strategy that forgives least: ZeRO-3 hangs if one rank gathers no more."""
AFTER = 2


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workplace")
    make_workplace(folder)
    return folder


@pytest.fixture(scope="module")
def on_two_ranks(workplace, _vllm):
    """Return a function that runs a helper on two ranks to its end, which leaves nothing behind."""

    def start(helper, *words):
        environment = os.environ | {"PYTHONPATH": f"{workplace}:{ROOT}", "OMP_NUM_THREADS": "1"}
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        process = subprocess.Popen(
            [sys.executable, *torchrun, str(HELPERS / helper), *map(str, words)],
            cwd=workplace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=900)
        finally:
            process.kill()
        assert not of_session(process.pid), printed[-6000:]
        assert not shared_memory(), printed[-6000:]
        return process.returncode, printed

    return start


def of_session(session):
    """The processes that a command has started, and that are still there."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True
    )
    return listed.stdout.split()


def shared_memory():
    """What ranks on CPUs that share an engine exchange activations in; the next ones stumble over what is left."""
    return list(Path("/dev/shm").glob("*cpushm*"))


@pytest.fixture(scope="module")
def fit_several(workplace, on_two_ranks):
    """Return a function that runs `fit` with several sets of overrides, by the name of their folder."""

    def start(runs):
        words = [word for name, overrides in runs.items() for word in ("--", name, *overrides)]
        return on_two_ranks("fit_several.py", workplace / "my_conf", *COMMON, *words)

    return start


@pytest.fixture(scope="module")
def runs(workplace, fit_several):
    """The workplace after every run."""
    status, printed = fit_several(RUNS)
    assert status == 0, printed[-6000:]
    return workplace


def steps_of(workplace, name):
    (path,) = (workplace / name / "quickstart" / "version_0" / "metrics").glob("*/metrics.csv")
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row["loss/policy"]]


def column(workplace, name, key):
    return [float(row[key]) for row in steps_of(workplace, name)]


def summary(workplace, name):
    return json.loads((workplace / name / "quickstart" / "version_0" / "summary.json").read_text())


def weights(workplace, name):
    folder = workplace / name / "quickstart" / "version_0" / "checkpoints"
    reader = open_checkpoint(folder / "last.ckpt")
    return {key: reader.read(key) for key in reader.keys("") if "lm_head" not in key}


@pytest.mark.parametrize("name", WITH_VLLM)
def test_every_sync_arrives(runs, name):
    """Weights whole, cut up, or merged of adapters; engines of one rank or of two."""
    gaps = column(runs, name, "sync/logprob_gap")
    assert len(gaps) == STEPS
    assert max(gaps) <= EXACT
    assert max(column(runs, name, "loss/sampler_gap")) <= EXACT
    assert summary(runs, name)["finished"]


@pytest.mark.parametrize("name", ["zero3", "fsdp2", "shared"])
def test_completions_depend_on_neither_strategy_nor_engines(runs, name):
    for key in ("rollout/reward_mean", "rollout/completion_tokens_mean"):
        assert column(runs, name, key) == pytest.approx(column(runs, "ddp", key), abs=1e-6)
    assert summary(runs, name)["final"] == pytest.approx(summary(runs, "ddp")["final"], abs=1e-6)


def test_rewards_are_those_of_the_transformers_engine(runs):
    """Both draw from the same distributions with other random numbers.

    A reward is one of seven numbers between 0 and 1, next to evenly: standard deviation 1/3. Means over 5 x 64 differ by
    0.026 (one standard deviation), accuracies of 256 answers by 0.044: four of them are allowed.
    """
    means = [sum(column(runs, name, "rollout/reward_mean")) / STEPS for name in ("plain", "ddp")]
    assert means[0] == pytest.approx(means[1], abs=0.11)
    finals = [summary(runs, name)["final"] for name in ("plain", "ddp")]
    assert finals[0]["val/held_out/num_responses"] == 256
    key = "val/held_out/accuracy"
    assert finals[0][key] == pytest.approx(finals[1][key], abs=0.18)


@pytest.fixture(scope="module")
def said_by_two(on_two_ranks, model_folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("shared")
    status, printed = on_two_ranks("shared_engine.py", model_folders["vl_tied"], out)
    assert status == 0, printed[-6000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def test_an_engine_for_two_ranks_draws_what_one_for_each_draws(said_by_two):
    """The ranks ask for different numbers of prompts."""
    for rank, said in enumerate(said_by_two):
        assert [len(groups) for groups in said["own"]] == [3 - rank] * 2
        assert said["shared"] == said["own"]
        assert said["gap"] <= EXACT


def test_what_one_rank_asks_wrongly_both_are_told(said_by_two):
    first, second = [said["too_much"] for said in said_by_two]
    assert second.startswith("engine: the prompt of problem 'much' has ")
    assert first == f"{second} (said by another rank that shares this one's engine)"


def test_nan_stops_both_ranks_and_spoils_nothing_later(said_by_two):
    first, second = [said["nan"] for said in said_by_two]
    assert first == second
    assert "are not finite, at weight version 1" in first
    assert all(said["gap_afterwards"] <= EXACT for said in said_by_two)


def test_a_layer_that_differs_is_found_in_parts_of_it(said_by_two):
    for said in said_by_two:
        none, found = said["layers"]
        assert none is None
        assert found.endswith("layers.1")


def test_ranks_are_left_as_they_were(said_by_two):
    for said in said_by_two:
        assert said["is_as_before"]
        assert said["group_works"] == 1 + 2


def failing(where):
    return (
        "engine._target_=tests.helpers.failing_engine.FailingEngine",
        f"+engine.fails_in={where}",
        f"+engine.after_steps={AFTER}",
    )


@pytest.fixture(scope="module")
def failed(workplace, fit_several):
    """What was printed of each run whose engine failed on one rank, and how long it took."""
    printed = {}
    for where, strategy in FAILURES.items():
        started = time.monotonic()
        status, text = fit_several({f"failing_{where}": (*RUNS[strategy], *failing(where))})
        assert status != 0
        printed[where] = (text, time.monotonic() - started)
    return printed


@pytest.mark.parametrize("where", FAILURES)
def test_an_engine_that_fails_on_one_rank_stops_both_with_a_message_each(failed, where):
    printed, _ = failed[where]
    last = [line for line in printed.splitlines() if "EngineError: " in line]
    (first,) = [line for line in last if line.startswith("[rank0]")]
    (second,) = [line for line in last if line.startswith("[rank1]")]
    assert "another rank's engine failed" in first
    assert f"made to fail in {where}" in second
    assert printed.count(f"The rollout engine failed after step {AFTER} of {STEPS}; saved ") == 1


def test_runs_whose_engine_failed_go_on_exactly(failed, runs, fit_several):
    again = {
        f"failing_{where}": (*RUNS[strategy], "exp_manager.version=version_0")
        for where, strategy in FAILURES.items()
    }
    status, printed = fit_several(again)
    assert status == 0, printed[-6000:]
    for where, strategy in FAILURES.items():
        undisturbed, resumed = weights(runs, strategy), weights(runs, f"failing_{where}")
        assert undisturbed.keys() == resumed.keys()
        for key in undisturbed:
            torch.testing.assert_close(
                resumed[key], undisturbed[key], atol=1e-6, rtol=0, msg=f"{where}: {key}"
            )
