import json
from pathlib import Path

import pytest

from rlsd_lightning.credit import lambda_at

# Computed in float64 with the method's released implementation (arXiv:2604.03128); see its "note".
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden_rlsd.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["lambda_schedule"])
def test_the_released_schedule_is_reproduced(case):
    found = [
        lambda_at(step, case["peak"], case["warmup_steps"], 0, case["decay_steps"])
        for step in range(1, len(case["values"]) + 1)
    ]
    assert found == pytest.approx(case["values"], abs=1e-9)


def test_the_plateau_holds_between_rise_and_fall():
    # W 2, H 3, D 4: 1/2 of the peak, the peak at steps 2-5, then 3/4, 2/4, 1/4, 0
    found = [lambda_at(step, 0.8, 2, 3, 4) for step in range(1, 11)]
    assert found == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0])


def test_the_cosine_falls_along_half_a_wave():
    # shares 1/3, 2/3 of pi: (1 + cos 60) / 2 = 0.75, (1 + cos 120) / 2 = 0.25
    found = [lambda_at(step, 1.0, 0, 1, 3, shape="cosine") for step in range(1, 6)]
    assert found == pytest.approx([1.0, 0.75, 0.25, 0.0, 0.0])


def test_the_step_stays_at_the_peak_and_drops():
    assert [lambda_at(step, 0.5, 0, 0, 3, shape="step") for step in range(1, 5)] == [
        0.5,
        0.5,
        0.0,
        0.0,
    ]


@pytest.mark.parametrize("shape", ["linear", "cosine", "step"])
def test_without_decay_lambda_stays_for_good(shape):
    assert lambda_at(10_000, 0.5, 3, 2, 0, shape=shape) == 0.5


@pytest.mark.parametrize("shape", ["linear", "cosine", "step"])
def test_lambda_never_rises_after_the_warm_up(shape):
    values = [lambda_at(step, 0.7, 4, 5, 11, shape=shape) for step in range(4, 40)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 0.7
    assert values[-1] == 0.0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"step": 0}, "step"),
        ({"peak": 1.5}, "peak"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"hold_steps": -1}, "hold_steps"),
        ({"decay_steps": -1}, "decay_steps"),
        ({"shape": "square"}, "shape"),
    ],
)
def test_an_argument_out_of_its_range_is_named(changed, named):
    good = {"step": 1, "peak": 0.5, "warmup_steps": 0, "hold_steps": 0, "decay_steps": 60}
    with pytest.raises(ValueError, match=named):
        lambda_at(**good | changed)
