"""The rollouts' benchmark: its models stop or do not stop as its table says, and both engines have a line."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlsd_lightning.models import load_policy

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_both_engines_have_a_line_and_the_faster_one_is_named():
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    done = subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "rollout.py", "--models", "64x2", "--prompts", "2"),
            *("--lengths", "even", "--completion-tokens", "4", "--threads", "1", "--rounds", "1"),
        ],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    _, _, ours, theirs = (line.split() for line in done.stdout.splitlines())
    assert [ours[4], theirs[4]] == ["transformers", "vllm"]
    for line in (ours, theirs):
        completions, tokens = (float(cell.replace(",", "")) for cell in line[5:7])
        assert tokens == pytest.approx(4 * completions, abs=4)  # nothing stops early
    speeds = {line[4]: float(line[6].replace(",", "")) for line in (ours, theirs)}
    assert theirs[8] == max(speeds, key=speeds.get)


def test_where_lengths_are_even_the_stop_token_is_never_drawn(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from random_model import Shape, write_text_model

    write_text_model(Shape.of("256x6"), tmp_path, "float32", uneven=False)
    policy = load_policy(str(tmp_path), dtype="float32")
    (never,) = policy.model.generation_config.eos_token_id
    with torch.no_grad():
        logprobs = policy.model(torch.arange(0, never).unsqueeze(0)).logits.log_softmax(-1)
    assert logprobs[..., never].max() < -100
    assert logprobs[..., :never].max() < -1  # all others about as often


def test_where_lengths_are_uneven_one_token_in_eight_stops(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from random_model import stop_ids

    assert len(stop_ids(264, 263, uneven=True)) == 264 / 8
