"""The benchmark of rollout.overlap: which steps count, what the best is, and that nothing stays behind."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.workplace import make_workplace

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORDS = (
    *("--steps", "4", "--rounds", "1", "--group-size", "2"),
    *("prepare=none", "verify_gold_problems=0", "rollout.problems_per_step=2"),
    *("rollout.sampling.max_completion_tokens=6", "serving.kv_cache_gb=0.03"),
    *("serving.max_model_len=768", "serving.max_num_seqs=16"),
)


@pytest.fixture
def overlap(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import overlap

    return overlap


def run_of(overlap, wall_s, phases_s, rollouts_s, wait_s):
    n = len(wall_s)
    return overlap.Steps(
        wall_s=wall_s,
        phases_s=phases_s,
        rollouts_s=rollouts_s,
        wait_s=wait_s,
        sync_s=[0.5] * n,
        reward=[0.25] * n,
        lag=[1.0] * n,
    )


@pytest.mark.parametrize(("ahead", "place"), [(False, "time"), (True, "ahead")])
def test_the_first_two_steps_and_the_last_one_do_not_count(overlap, ahead, place):
    names = [f"{place}/{name}" for name in ("rollout_s", "verify_s", "encode_teacher_s")]
    others = ["time/step_s", "time/rollout_wait_s", "sync/seconds", "rollout/reward_mean"]
    metrics = {
        name: {step: 10.0 * step + place for step in range(1, 6)}
        for place, name in enumerate([*names, *others, "rollout/policy_lag_max"])
    }
    steps = overlap.steps_of(metrics, [0.0, 100.0, 101.0, 103.0, 200.0], ahead)
    assert steps.wall_s == [1.0, 2.0]  # steps 3 and 4: 100 to 101 s, 101 to 103 s
    assert steps.rollouts_s == [30 + 31 + 32, 40 + 41 + 42]
    assert steps.phases_s == [33.0, 43.0]
    assert steps.wait_s == ([34.0, 44.0] if ahead else [0.0, 0.0])
    assert (steps.sync_s, steps.reward, steps.lag) == ([35, 45], [36, 46], [37, 47])


def test_the_best_is_the_longer_part_and_what_cannot_overlap(overlap):
    # 5 s = 2 s of rollouts + 2.5 s of training + 0.5 s beside: 3 s; 5 s = 3 + 1 + 1: 4 s; median 3.5 s
    runs = [
        run_of(overlap, [5.0], [4.5], [2.0], [0.0]),
        run_of(overlap, [5.0], [4.0], [3.0], [0.0]),
    ]
    assert overlap.best_s(runs) == 3.5


def test_lines_have_medians_over_all_steps_and_the_gain_compares_them(overlap):
    off = [
        run_of(overlap, [5.0, 5.0, 9.0], [4.5] * 3, [2.0] * 3, [0.0] * 3),
        run_of(overlap, [6.0], [4.5], [2.0], [0.0]),
    ]
    on = [run_of(overlap, [4.0], [3.5], [2.0], [1.0])]
    # off: 5, 5, 6, 9 -> 5.5 s; medians of the runs 5 s and 6 s; all rollouts beside training: 2 s less
    assert overlap.row(False, off) == [
        *("off", "4", "5.500", "5.00-6.00", "4.500", "2.000", "-", "0.500", "3.500", "0.250", "1")
    ]
    assert overlap.row(True, on) == [
        *("on", "1", "4.000", "4.00-4.00", "3.500", "2.000", "1.000", "0.500", "-", "0.250", "1")
    ]
    assert overlap.gain(off, on) == "off / on: 1.38   off / best: 1.57"
    assert len(overlap.row(True, on)) == len(overlap.HEADER)


def test_too_few_steps_are_refused(overlap, capsys):
    with pytest.raises(SystemExit):
        overlap.arguments(["--steps", "3"])
    assert "set it to 4 or more" in capsys.readouterr().err


def begin(tmp_path):
    """Start the benchmark on an untrained model; its processes can be told by a variable of their environment."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    make_workplace(tmp_path)
    own = {"TMPDIR": str(tmp_path), "OVERLAP_TEST": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, BENCHMARKS / "overlap.py", *WORDS],
        cwd=tmp_path,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command_lines(tmp_path):
    """The command lines of all processes that the benchmark has started, by process."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"OVERLAP_TEST={tmp_path}\0".encode() in (process / "environ").read_bytes():
                found[process.name] = (process / "cmdline").read_text()
        except OSError:  # it has ended, or is not ours
            continue
    return found


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_runs_with_and_without_overlap_share_a_server_that_ends_with_them(tmp_path):
    benchmark = begin(tmp_path)
    printed, errors = benchmark.communicate(timeout=560)
    assert benchmark.returncode == 0, errors
    first, header, off, on, gain = printed.splitlines()
    assert first == "quickstart, G = 2, 1 rounds of 4 steps"
    assert header.split()[0] == "overlap"
    assert (off.split()[:2], on.split()[:2]) == (["off", "1"], ["on", "1"])
    assert (off.split()[-1], on.split()[-1]) == ("0", "1")
    _, _, step_s, _, _, rollouts_s, _, sync_s, best_s, *_ = off.split()
    assert float(rollouts_s) < float(best_s) < float(step_s)
    assert 0 < float(sync_s) < float(best_s)
    assert gain.startswith("off / on: ")
    assert not command_lines(tmp_path)


@pytest.mark.slow
def test_nothing_stays_behind_when_the_benchmark_is_killed(tmp_path):
    benchmark = begin(tmp_path)
    try:
        wait_until(lambda: any("vllm_api_server" in s for s in command_lines(tmp_path).values()))
    finally:
        benchmark.send_signal(signal.SIGKILL)
        benchmark.communicate()
    wait_until(lambda: not command_lines(tmp_path))
