"""The whole way, as a user goes it: commands in their own processes, a plugin of the user's own, a kill, a resume."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlsd_lightning.quickstart.shapes import draw_puzzles, write_dataset
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor

PLUGINS = '''
import os, signal
from lightning.pytorch.callbacks import Callback
from rlsd_lightning.types import Verdict


class SpreadVerifier:
    """Rewards that differ within every group, for an untrained model."""

    def verify(self, problem, response):
        reward = (sum(map(ord, response)) % 7) / 6
        return Verdict(reward=reward, correct=reward > 0.5)


class SignalOnce(Callback):
    """Sends this process a signal after a micro-batch; only at the first start."""

    def __init__(self, after_batches, number, marker):
        self.after_batches, self.number, self.marker = after_batches, number, marker

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == self.after_batches and not os.path.exists(self.marker):
            open(self.marker, "w").close()
            os.kill(os.getpid(), getattr(signal, self.number))
'''
STEPS, MICRO_BATCHES = 6, 2
SMALL = (
    "prepare=none",
    "--config-dir=my_conf",
    "verifier=spread",
    "verify_gold_problems=0",
    "rollout.problems_per_step=4",
    "rollout.group_size=4",
    "rollout.sampling.max_completion_tokens=10",
    f"trainer.max_steps={STEPS}",
    f"trainer.accumulate_grad_batches={MICRO_BATCHES}",
    "trainer.val_check_interval=null",
    "teacher.every_n_steps=2",
    "callbacks.lambda_decay={peak: 0.5, warmup_steps: 0, hold_steps: 0, decay_steps: 10}",
    "exp_manager.checkpoint_callback_params.every_n_train_steps=2",
    "evaluators.held_out.samples_per_problem=1",
)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with a task, an untrained model and a user's plugins, as data/quickstart would be."""
    folder = tmp_path_factory.mktemp("workplace")
    task = folder / "data" / "quickstart"
    puzzles = list(zip(range(24), draw_puzzles("tests", num_colours=4, num_counted=3)))
    write_dataset(
        task / "data",
        {"train": [p for _, p in puzzles[:20]], "test": [p for _, p in puzzles[20:]]},
    )
    processor = build_processor()
    build_model(processor.tokenizer, seed=0).save_pretrained(task / "warm")
    processor.save_pretrained(task / "warm")
    (folder / "my_plugins.py").write_text(PLUGINS)
    (folder / "my_conf" / "verifier").mkdir(parents=True)
    (folder / "my_conf" / "verifier" / "spread.yaml").write_text(
        "_target_: my_plugins.SpreadVerifier\n"
    )
    return folder


def rlsd(workplace: Path, command: str, *overrides: str, runs: str) -> subprocess.CompletedProcess:
    """Run a command as a user does, in `workplace`, with a runs folder of its own."""
    environment = os.environ | {"PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        "-m",
        "rlsd_lightning",
        command,
        *SMALL,
        f"paths.runs={runs}",
        *overrides,
    ]
    return subprocess.run(
        words, cwd=workplace, env=environment, capture_output=True, text=True, timeout=300
    )


def checkpoint(workplace: Path, runs: str) -> dict:
    path = workplace / runs / "quickstart" / "version_0" / "checkpoints" / "last.ckpt"
    return torch.load(path, map_location="cpu", weights_only=False)


def same(a, b) -> bool:
    """Compare nested state, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="session")
def straight(workplace) -> subprocess.CompletedProcess:
    """An uninterrupted run."""
    done = rlsd(workplace, "fit", runs="straight")
    assert done.returncode == 0, done.stderr
    return done


def test_fit_trains_and_says_in_three_lines_what_came_of_it(workplace, straight):
    before = torch.load  # noqa: F841
    last = straight.stdout.strip().splitlines()[-3:]
    assert "accuracy" in last[0]
    assert "version_0" in last[1]
    assert last[2].split()[1].endswith("report.html")
    assert Path(last[2].split()[1]).is_file()


@pytest.mark.parametrize("after_batches", [7])
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(workplace, straight, after_batches):
    resumes_exactly(workplace, after_batches)


@pytest.mark.slow
@pytest.mark.parametrize(
    "after_batches", [b for b in range(1, STEPS * MICRO_BATCHES + 1) if b != 7]
)
def test_it_does_so_wherever_it_is_killed(workplace, straight, after_batches):
    resumes_exactly(workplace, after_batches)


def resumes_exactly(workplace: Path, after_batches: int) -> None:
    runs = f"killed_{after_batches}"
    kill = (
        "+callbacks.kill={_target_: my_plugins.SignalOnce, "
        f"after_batches: {after_batches}, number: SIGKILL, marker: {runs}.marker}}"
    )
    killed = rlsd(workplace, "fit", kill, runs=runs)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = rlsd(workplace, "fit", kill, runs=runs)
    assert resumed.returncode == 0, resumed.stderr
    one, other = checkpoint(workplace, "straight"), checkpoint(workplace, runs)
    assert any(key.startswith("teacher.copy.") for key in one["state_dict"])
    assert same(one["state_dict"], other["state_dict"])
    assert same(one["optimizer_states"], other["optimizer_states"])
    assert same(one["lr_schedulers"], other["lr_schedulers"])


def test_grpo_is_rlsd_at_lambda_zero_bit_for_bit(workplace):
    grpo = rlsd(workplace, "fit", "credit=grpo", "~callbacks.lambda_decay", runs="grpo")
    rlsd_at_zero = rlsd(workplace, "fit", "callbacks.lambda_decay.peak=0", runs="rlsd_at_zero")
    assert grpo.returncode == rlsd_at_zero.returncode == 0, grpo.stderr + rlsd_at_zero.stderr
    one, other = checkpoint(workplace, "grpo"), checkpoint(workplace, "rlsd_at_zero")
    assert same(one["state_dict"], other["state_dict"])


def test_rlsd_is_not_grpo_at_lambda_above_zero(workplace, straight):
    rlsd(workplace, "fit", "credit=grpo", "~callbacks.lambda_decay", runs="grpo")
    one, other = checkpoint(workplace, "grpo"), checkpoint(workplace, "straight")
    assert not same(one["state_dict"], other["state_dict"])


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(workplace, straight):
    interrupt = "+callbacks.interrupt={_target_: my_plugins.SignalOnce, after_batches: 5, number: SIGINT, marker: int.marker}"
    stopped = rlsd(workplace, "fit", interrupt, runs="interrupted")
    assert "Stopped after step 3 of 6" in stopped.stderr
    assert "To go on from there: python -m rlsd_lightning" in stopped.stderr
    resumed = rlsd(workplace, "fit", interrupt, runs="interrupted")
    assert resumed.returncode == 0, resumed.stderr
    one, other = checkpoint(workplace, "straight"), checkpoint(workplace, "interrupted")
    assert same(one["state_dict"], other["state_dict"])


def test_predict_writes_completions_with_verdicts(workplace, straight):
    done = rlsd(workplace, "predict", runs="straight")
    assert done.returncode == 0, done.stderr
    path = workplace / "straight" / "quickstart" / "version_0" / "predictions" / "held_out.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 4
    assert {"problem_id", "response", "reward", "correct", "valid", "reason"} <= rows[0].keys()


def test_export_writes_a_folder_that_transformers_loads(workplace, straight):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    done = rlsd(workplace, "export", "paths.output=exported", runs="straight")
    assert done.returncode == 0, done.stderr
    model = AutoModelForImageTextToText.from_pretrained(workplace / "exported")
    AutoProcessor.from_pretrained(workplace / "exported")
    trained = checkpoint(workplace, "straight")["state_dict"]
    for name, weight in model.named_parameters():
        assert torch.equal(weight, trained[f"policy.model.{name}"])


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_commands_print_their_numbers(workplace, straight, command):
    done = rlsd(workplace, command, runs="straight")
    assert done.returncode == 0, done.stderr
    stage = {"validate": "val", "test": "test"}[command]
    assert f"{stage}/held_out/accuracy" in done.stdout
