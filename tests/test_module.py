"""What training refuses to learn from."""

from types import SimpleNamespace

import pytest
import torch

from rlsd_lightning.module import RLSDModule
from tests.helpers.fakes import FixedCredit


def module_at(global_step, **settings):
    parts = {"engine": None, "encoder": None, "evaluations": {}, "temperature": 1.0}
    module = RLSDModule(
        torch.nn.Linear(1, 1), None, FixedCredit(), None, None, None, **parts, **settings
    )
    module.trainer = SimpleNamespace(global_step=global_step)
    return module


@pytest.mark.parametrize(
    ("max_policy_lag", "version"),
    [(0, 4), (0, 6), (2, 2), (2, 6)],
    ids=["old", "from the future", "too old", "from the future, with lag"],
)
def test_rollouts_of_weights_too_old_or_not_there_yet_are_refused(max_policy_lag, version):
    module = module_at(5, max_policy_lag=max_policy_lag)
    message = (
        rf"rollout\.max_policy_lag is {max_policy_lag}, but the policy has taken 5 optimizer steps.*"
        rf"weights after {version}\. Needed: a difference of 0 to {max_policy_lag}.*weight_sync"
    )
    with pytest.raises(RuntimeError, match=message):
        module.training_step(SimpleNamespace(policy_version=version), 0)
