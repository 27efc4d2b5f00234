"""Rows and micro-batches as data/collate.py cuts them."""

import dataclasses

import pytest

from rlsd_lightning.data.collate import balance, row_tokens, split_groups
from tests.helpers.rollouts import sized_group
from tests.planning import tiny


@pytest.mark.parametrize(
    ("problems", "group_size", "prompt", "completion", "limit", "micro_batches", "share"),
    [
        (4, 4, 10, 5, None, 2, True),  # whole groups
        (4, 4, 10, 5, 21, 2, True),  # two completions fit: two rows for each group
        (4, 4, 10, 5, 12, 2, True),  # none fits: a row each
        (4, 4, 10, 5, None, 2, False),
        (2, 8, 10, 5, None, 8, True),  # fewer groups than micro-batches: groups are halved
        (3, 4, 10, 5, None, 2, True),  # does not divide: 2 rows and 1
    ],
)
def test_rows_and_the_fullest_micro_batch(
    problems, group_size, prompt, completion, limit, micro_batches, share
):
    groups = [sized_group(str(i), prompt, [completion] * group_size) for i in range(problems)]
    units = split_groups(groups, micro_batches, limit, share)
    fullest = max(balance(units, micro_batches), key=lambda part: sum(map(row_tokens, part)))
    work = dataclasses.replace(
        tiny.workload(problems, group_size, prompt, completion),
        max_row_tokens=limit,
        num_micro_batches=micro_batches,
        share_prefix=share,
    )
    assert work.num_rows == len(units)
    assert work.student().num_tokens == sum(map(row_tokens, units))
    assert work.student().num_predicted == problems * group_size * completion
    planned, longest = work.micro_batches()
    assert planned.student.num_rows == len(fullest)
    assert planned.student.num_tokens == sum(map(row_tokens, fullest))
    assert longest.student.row_tokens == prompt + completion


def test_the_longer_view_decides_how_many_completions_share_a_row():
    work = dataclasses.replace(
        tiny.workload(1, 4, 10, 5, teacher=20), max_row_tokens=30, num_micro_batches=1
    )
    assert work.completions_per_row == 2
    assert work.student().row_tokens == 10 + 2 * 5
    assert work.teacher().row_tokens == 20 + 2 * 5


def test_an_image_is_encoded_once_for_the_rows_that_share_it():
    work = dataclasses.replace(
        tiny.workload(4, 4, 100, 5, with_images=True), max_row_tokens=110, num_micro_batches=2
    )
    assert work.num_rows == 8
    planned, longest = work.micro_batches()
    assert (planned.num_problems, longest.num_problems) == (2, 1)
    assert work.num_patches(planned.num_problems, patches_per_token=4) == 2 * 64 * 4
