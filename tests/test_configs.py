"""Every yaml of conf/ composes and validates. tests/system/test_train.py runs every experiment for a step."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

import rlsd_lightning.conf
from rlsd_lightning.config import validate

CONF = Path(rlsd_lightning.conf.__file__).parent
FILLED = (
    "model.path=some/model",
    "data.train.path=train.jsonl",
)
"""What a user must say where the quickstart does not: enough to leave no ??? behind."""


EXPERIMENTS_WITH_A_GROUP = {"claims/": "claims", "paper=": "rlsd_qwen3_vl_8b"}
"""Groups that only some experiments have."""


def options() -> list[str]:
    """List every option of every group as group=option."""
    files = (path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
    return sorted(f"{file.parent}={file.stem}" for file in files if file.parent != Path("."))


def composed(*overrides: str):
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        return compose("config", list(overrides))


def fill(option: str) -> list[str]:
    """Say what an option leaves to the user; a group that only an experiment has needs the experiment."""
    for group, experiment in EXPERIMENTS_WITH_A_GROUP.items():
        if option.startswith(group):
            return [f"experiment={experiment}"]
    needed = {
        "experiment=none": [*FILLED],
        "model=pretrained": ["model.path=some/model"],
        "model=tiny_qwen3": ["model.path=some/model"],
        "data=problems": ["data.train.path=train.jsonl"],
        "teacher=external": ["teacher.path=other/model"],
        "callbacks=keep_best": ["callbacks.keep_best.monitor=val/held_out/accuracy"],
        "evaluators=held_out": ["evaluators.held_out.problems.path=test.jsonl"],
    }
    return needed.get(option, [])


@pytest.mark.parametrize("option", [o for o in options() if not o.startswith("hydra")])
def test_every_option_of_every_group_composes_and_validates_over_the_quickstart(option: str):
    validate(composed(option, *fill(option)), "fit")


def test_a_users_own_run_needs_a_model_and_data_and_nothing_else():
    validate(composed("experiment=none", *FILLED), "fit")


@pytest.mark.parametrize("command", ["validate", "test", "predict", "export"])
def test_the_quickstart_validates_for_every_command(command: str):
    validate(composed(), command)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        *(("bf16-mixed", "bfloat16"), ("bf16-true", "bfloat16"), ("16-mixed", "float16")),
        *(("32-true", "float64"), ("32", "float64")),  # the model's
    ],
)
def test_vllm_computes_in_the_type_that_the_policy_computes_in(precision, dtype):
    cfg = composed("engine=vllm", f"trainer.precision={precision}", "model.dtype=float64")
    assert (cfg.engine.dtype, cfg.serving.dtype) == (dtype, dtype)


def test_the_first_line_of_every_yaml_says_what_it_is():
    for path in CONF.rglob("*.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        first = next(line for line in lines if not line.startswith("# @package"))
        assert first.startswith("# "), f"{path} begins with {first!r}"


def test_rlsd_plus_is_the_rule_that_the_comparison_judged():
    from benchmarks.claims.plan import METHODS

    judged = composed("experiment=none", *FILLED, *METHODS["rlsd_plus"])
    preset = composed("experiment=none", *FILLED, "credit=rlsd_plus")
    assert preset.credit == judged.credit
    assert preset.callbacks == judged.callbacks
