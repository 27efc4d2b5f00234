"""What `plan` prints, and what it advises."""

import re

import pytest

from rlsd_lightning.planning.advice import advise, excess
from rlsd_lightning.planning.command import plan
from rlsd_lightning.planning.memory import plan_memory
from tests.planning.paper import config, setup


def test_the_papers_run_fits_its_own_gpus_at_its_own_limits(capsys):
    numbers = plan(config())
    text = capsys.readouterr().out
    assert numbers["plan/fits"] == 1.0
    assert "Qwen/Qwen3-VL-8B-Instruct: 8.77 B weights, all trained, bf16-mixed" in text
    assert "4 x 8 NVIDIA H200, zero2" in text
    for part in (
        "weights",
        "gradients",
        "optimizer",
        "teacher",
        "engine weights",
        "KV cache",
        "activations",
        "logits",
    ):
        assert re.search(rf"^{part} +\d", text, re.MULTILINE), part
    for phase in ("rollout", "teacher", "update", "sync", "verify"):
        assert re.search(rf"^{phase} +\S", text, re.MULTILINE), phase
    assert "Upper bounds: plan.prompt_tokens" in text
    assert "\nFits: NVIDIA H200 has 141 GiB" in text
    assert "8,388,608 completion tokens" in text


def test_the_total_of_a_column_is_the_sum_of_its_parts(capsys):
    plan(config("trainer=ddp", "trainer.devices=8"))
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    columns = [[float(cell) for cell in line.split()[-4:]] for line in table[1:]]
    for *parts, total in zip(*columns, strict=True):
        assert sum(parts) == pytest.approx(total, abs=0.06 * len(parts))


@pytest.mark.parametrize("gpu", ["h100", "a100_40gb"])
def test_advice_is_followed_word_by_word_and_then_the_run_fits(gpu, capsys):
    """Each override goes back through the whole configuration, and gives the number that was promised."""
    words = [f"plan.gpu={gpu}"]
    advice = advise(setup(*words))
    assert [a.fits for a in advice] == [False] * (len(advice) - 1) + [True]
    for one in advice:
        words.append(one.override)
    followed = setup(*words)
    assert plan_memory(followed).peak == pytest.approx(advice[-1].peak)
    assert excess(followed) == 0
    numbers = plan(config(*words))
    assert numbers["plan/fits"] == 1.0
    assert "What to change" not in capsys.readouterr().out


def test_what_costs_nothing_is_advised_first(capsys):
    plan(config("plan.gpu=a100_80gb"))
    text = capsys.readouterr().out
    assert "Does not fit: NVIDIA A100 80GB has 80 GiB" in text
    changes = re.findall(r"^  (\S+=\S+) ", text, re.MULTILINE)
    assert changes[0].startswith("trainer.accumulate_grad_batches=")
    assert "trainer=deepspeed" not in changes[0]


def test_what_cannot_fit_is_told(capsys):
    numbers = plan(
        config(
            "experiment=rlsd_qwen3_vl_8b",
            "model=qwen3_vl_32b",
            "plan.gpu=a100_40gb",
            "trainer.num_nodes=1",
        )
    )
    assert numbers["plan/fits"] == 0.0
    assert "None of it is enough" in capsys.readouterr().out


def test_a_mixture_of_experts_says_what_its_router_is_trained_without(capsys):
    plan(config("model=qwen3_vl_30b_a3b"))
    assert "without a loss that balances the router's load" in capsys.readouterr().out
