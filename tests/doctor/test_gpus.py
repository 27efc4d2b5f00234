"""GPUs, given as they might be found, against the trainer's settings."""

import pytest

from rlsd_lightning.doctor.gpus import Gpu, check_gpus

TRAINER = {"accelerator": "auto", "devices": "auto", "precision": "bf16-mixed"}


def gpu(free=79, has_bfloat16=True):
    return Gpu(
        name="NVIDIA H100",
        free_bytes=free * 2**30,
        total_bytes=80 * 2**30,
        has_bfloat16=has_bfloat16,
    )


def test_free_gpus_are_counted():
    found = check_gpus([gpu(), gpu()], TRAINER)
    assert (found.level, found.seen) == (
        "ok",
        "2 x NVIDIA H100, at least 79.0 GiB free on each.",
    )


@pytest.mark.parametrize(
    ("gpus", "changed", "level", "said"),
    [
        ([], {"accelerator": "cpu"}, "ok", "none asked for"),
        ([], {}, "warning", "finds none, and trainer.accelerator is auto"),
        ([], {"accelerator": "gpu"}, "fault", "finds none, and trainer.accelerator is gpu"),
        (
            [gpu()],
            {"devices": 2},
            "fault",
            "trainer.devices is 2. Set trainer.devices to at most 1",
        ),
        ([gpu(), gpu(free=40)], {}, "warning", "40.0 GiB free on each. Another process holds"),
        ([gpu(has_bfloat16=False)], {}, "fault", "trainer.precision is bf16-mixed"),
        ([gpu(has_bfloat16=False)], {"precision": "32-true"}, "ok", "1 x NVIDIA H100"),
    ],
)
def test_what_does_not_fit_is_told(gpus, changed, level, said):
    found = check_gpus(gpus, TRAINER | changed)
    assert found.level == level
    assert said in f"{found.seen} {found.advice}"
