"""SDPO: siblings as context. What is shown of them is tested in tests/data_room/test_teacher_views.py."""

import torch

from rlsd_lightning.credit.sdpo import SDPOCredit
from rlsd_lightning.data.collate import collate
from tests.helpers.rollouts import sized_group


def test_the_teacher_reads_siblings_and_scores_every_completion():
    assert SDPOCredit().needs.view == "siblings"
    assert SDPOCredit().needs.every_completion


def test_a_group_without_a_correct_completion_gets_no_credit_and_asks_no_teacher():
    """Its rollouts have no teacher's view; the module then hands the policy's own log-probs over."""
    group = sized_group("a", 4, [2, 3])
    batch = collate(
        [group], policy_version=0, num_step_tokens=5, num_step_completions=2, metrics={}
    )
    assert batch.teacher is None
    assert len(batch.teacher_index) == 0
    own = -torch.rand(2, 3)
    credit, _ = SDPOCredit()(batch.advantages, own, own, batch.completion_mask)
    assert not credit.any()
