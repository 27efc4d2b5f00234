"""Training as a user does it: each command in a process of its own, a kill, a resume."""

import json
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers.workplace import MICRO_BATCHES, SMALL, STEPS, checkpoint, logged

FIT = ("fit", *SMALL, "teacher.every_n_steps=2")


def same(one, other) -> bool:
    """Compare nested state, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_fit_ends_with_three_lines_what_was_learnt_where_it_is_what_to_open(straight):
    learnt, where, look = straight.stdout.strip().splitlines()[-3:]
    assert "held_out accuracy" in learnt
    assert "version_0" in where
    assert Path(look.split()[1]).name == "report.html"
    assert Path(look.split()[1]).is_file()


def test_fit_changes_the_policy_and_its_synced_teacher(workplace, straight):
    from transformers import AutoModelForImageTextToText

    before = AutoModelForImageTextToText.from_pretrained(workplace / "data" / "quickstart" / "warm")
    after = checkpoint(workplace, "runs")["state_dict"]
    name, weight = next(iter(before.named_parameters()))
    assert not torch.equal(weight, after[f"policy.model.{name}"])
    assert torch.equal(after[f"teacher.copy.model.{name}"], after[f"policy.model.{name}"])
    assert int(after["teacher.version"]) == STEPS


def test_every_step_is_logged_and_recorded_once(workplace, straight):
    run = workplace / "runs" / "quickstart" / "version_0"
    steps = [path.stem for path in sorted((run / "rollouts").glob("*.jsonl"))]
    assert steps == [f"step_{step:08d}" for step in range(1, STEPS + 1)]
    rows = (run / "rollouts" / "step_00000001.jsonl").read_text().splitlines()
    assert len(rows) == 4 * 4
    assert json.loads(rows[0])["step"] == 1


@pytest.mark.parametrize("after_batches", [7])
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(
    workplace, rlsd, straight, after_batches
):
    resumes_exactly(workplace, rlsd, after_batches)


@pytest.mark.slow
@pytest.mark.parametrize(
    "after_batches", [b for b in range(1, STEPS * MICRO_BATCHES + 1) if b != 7]
)
def test_it_does_so_wherever_it_is_killed(workplace, rlsd, straight, after_batches):
    resumes_exactly(workplace, rlsd, after_batches)


def resumes_exactly(workplace, rlsd, after_batches: int) -> None:
    runs = f"killed_{after_batches}"
    kill = (
        "+callbacks.kill={_target_: my_plugins.SignalOnce, "
        f"after_batches: {after_batches}, number: SIGKILL, marker: {runs}.marker}}"
    )
    killed = rlsd(*FIT, kill, f"paths.runs={runs}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = rlsd(*FIT, kill, f"paths.runs={runs}")
    assert resumed.returncode == 0, resumed.stderr
    assert ends_alike(workplace, "runs", runs)


def ends_alike(workplace, one: str, other: str) -> bool:
    """Compare the last checkpoints: policy, teacher, optimizer, schedule, loader."""
    first, second = checkpoint(workplace, one), checkpoint(workplace, other)
    return all(
        same(first[part], second[part])
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
    )


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(workplace, rlsd, straight):
    interrupt = (
        "+callbacks.interrupt={_target_: my_plugins.SignalOnce, after_batches: 5, number: SIGINT, "
        "marker: interrupted.marker}"
    )
    stopped = rlsd(*FIT, interrupt, "paths.runs=interrupted")
    assert "Stopped after step 3 of 6" in stopped.stderr
    assert "To go on from there: python -m rlsd_lightning" in stopped.stderr
    resumed = rlsd(*FIT, interrupt, "paths.runs=interrupted")
    assert resumed.returncode == 0, resumed.stderr
    assert ends_alike(workplace, "runs", "interrupted")


def policy_weights(workplace, runs: str) -> dict:
    """Return the policy's weights of the last checkpoint; GRPO's holds no teacher beside them."""
    weights = checkpoint(workplace, runs)["state_dict"]
    return {name: weight for name, weight in weights.items() if name.startswith("policy.")}


def test_grpo_is_rlsd_at_lambda_zero_bit_for_bit_and_not_above(workplace, rlsd, straight):
    grpo = rlsd(*FIT, "credit=grpo", "~callbacks.lambda_decay", "paths.runs=grpo")
    at_zero = rlsd(*FIT, "callbacks.lambda_decay.peak=0", "paths.runs=at_zero")
    assert grpo.returncode == at_zero.returncode == 0, grpo.stderr + at_zero.stderr
    weights = [policy_weights(workplace, runs) for runs in ("grpo", "at_zero", "runs")]
    assert "plain GRPO" in at_zero.stderr
    assert "plain GRPO" not in straight.stderr
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


@pytest.mark.parametrize(
    "cut",
    [
        ("trainer.accumulate_grad_batches=3", "rollout.share_prefix=false"),
        (
            "trainer=ddp",
            "trainer.accelerator=cpu",
            "trainer.precision=32-true",
            "trainer.devices=2",
        ),
    ],
    ids=["micro_batches", "two_processes"],
)
def test_how_a_step_is_cut_does_not_change_what_is_learnt(workplace, rlsd, straight, cut, request):
    runs = request.node.callspec.id
    given = {word.split("=")[0] for word in cut}
    done = rlsd(
        *(word for word in FIT if word.split("=")[0] not in given), *cut, f"paths.runs={runs}"
    )
    assert done.returncode == 0, done.stderr
    one, other = (checkpoint(workplace, r)["state_dict"] for r in ("runs", runs))
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=1e-5, rtol=0, msg=name)
    for here, there in zip(logged(workplace, "runs"), logged(workplace, runs), strict=True):
        assert here == pytest.approx(there, rel=1e-4, abs=1e-6)


OWN = (
    "model.path=data/quickstart/warm",
    "data.train.path=data/quickstart/data/train.jsonl",
    "prompt=quickstart",
)


@pytest.mark.parametrize(
    ("experiment", "needed"), [("quickstart", ("prepare=none",)), ("none", OWN)]
)
def test_every_experiment_runs_one_small_step_with_debug_cpu(workplace, rlsd, experiment, needed):
    runs = f"paths.runs=debug_{experiment}"
    done = rlsd(
        "fit", f"experiment={experiment}", "debug=cpu", *needed, *SMALL[:1], "verifier=spread", runs
    )
    assert done.returncode == 0, done.stderr
    assert "Learnt in 1 steps" in done.stdout


PAPER = (
    *OWN[:2],
    "data.train.split=null",
    "data.train.columns={kind: kind, reference: reference, id: id}",
)


def test_every_run_of_the_papers_table_takes_one_small_step_with_debug_cpu(workplace, rlsd):
    methods = ("rlsd", "grpo", "opsd", "sdpo", "grpo_opsd")
    runs = ",".join(f"{method}_qwen3_vl_8b" for method in methods)
    small = (*PAPER, *SMALL[:1], "verifier=spread", "paths.runs=debug_paper")
    done = rlsd("fit", "--multirun", f"experiment={runs}", "debug=cpu", *small)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Learnt in 1 steps") == len(methods)


@pytest.mark.slow
def test_the_quickstart_doubles_its_accuracy(rlsd, tmp_path):
    done = rlsd("fit", f"paths.data={tmp_path}/data", f"paths.runs={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "runs/quickstart/version_0/summary.json").read_text())
    before = summary["warm_start"]["val/held_out/accuracy"]
    assert 0.15 <= before <= 0.40
    assert summary["final"]["val/held_out/accuracy"] >= 2 * before
