"""Slopes of lines, and of what is none."""

import pytest
import torch

from rlsd_lightning.leakage.trend import slope


def test_noise_and_gaps_are_fitted_by_least_squares():
    points = [(3, 10.0), (4, 13.0), (7, 11.0), (9, 18.0)]
    design = torch.tensor([[x, 1.0] for x, _ in points])
    wanted = torch.linalg.lstsq(design, torch.tensor([[y] for _, y in points])).solution[0, 0]
    assert slope(points) == pytest.approx(float(wanted), abs=1e-5)


def test_one_point_has_no_slope():
    with pytest.raises(ValueError, match="two with different x"):
        slope([(1, 2.0)])
