"""What contradicts the strategy is refused before a model is loaded, each in one line."""

import pytest

from rlsd_lightning.config import ConfigError, validate
from tests.test_configs import composed


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (
            ["trainer=deepspeed_zero2", "+trainer.strategy.config={gradient_clipping: 0.5}"],
            "trainer.strategy.config.gradient_clipping is set, which is trainer.gradient_clip_val",
        ),
        (
            [
                "trainer=deepspeed_zero2",
                "+trainer.strategy.config={gradient_accumulation_steps: 4}",
            ],
            "trainer.strategy.config.gradient_accumulation_steps is set",
        ),
        (
            ["trainer=deepspeed_zero2", "+trainer.strategy.config={bf16: {enabled: true}}"],
            "trainer.strategy.config.bf16 is set, which is trainer.precision here",
        ),
        (
            [
                "trainer=deepspeed_zero2",
                "+trainer.strategy.config={zero_optimization: {stage: 3}}",
            ],
            "trainer.strategy.config.zero_optimization.stage is 3, which is trainer.strategy.stage",
        ),
        (
            ["trainer=deepspeed_zero3", "trainer.gradient_clip_algorithm=value"],
            "trainer.gradient_clip_algorithm is value, but DeepSpeed clips by norm",
        ),
        (
            ["trainer=deepspeed_zero1", "teacher=ema"],
            "teacher=ema moves its weights by small shares",
        ),
        (
            ["trainer=fsdp2", "model.dtype=bfloat16", "model.lora={rank: 4, alpha: 8}"],
            "model.dtype is bfloat16 and model.lora is set",
        ),
        (
            [
                "trainer=deepspeed_zero2",
                "model.load_in_4bit=true",
                "model.lora={rank: 4, alpha: 8}",
            ],
            "model.load_in_4bit is true, which DeepSpeedZero cannot share out",
        ),
    ],
)
def test_contradictions_are_refused(overrides, fault):
    with pytest.raises(ConfigError) as caught:
        validate(composed(*overrides), "fit")
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(fault)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer=deepspeed_zero3", "+trainer.strategy.config={communication_data_type: fp32}"],
        ["trainer=deepspeed_zero1", "teacher=ema", "trainer.precision=32-true"],
        ["trainer=fsdp2", "teacher=ema"],
        ["trainer=deepspeed_zero3", "model.dtype=bfloat16", "model.lora={rank: 4, alpha: 8}"],
    ],
)
def test_what_does_not_contradict_is_not(overrides):
    validate(composed(*overrides), "fit")
