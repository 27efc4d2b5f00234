"""One step's rollouts, cut into micro-batches in many ways: the same work for the loss, whatever the cut."""

import itertools

import pytest
import torch

from rlsd_lightning.credit import rlsd_credit
from rlsd_lightning.data.collate import (
    balance,
    collate,
    num_loss_tokens,
    row_tokens,
    split_groups,
)
from rlsd_lightning.loss import clipped_policy_loss
from rlsd_lightning.packing import PADDING
from tests.helpers.rollouts import rollout, sized_group

TEMPERATURE = 0.9


def shape(units):
    """Say of each unit whose it is and which completions it has, by their first token."""
    return [(unit[0].problem.id, [r.completion.token_ids[0] - 7 for r in unit]) for unit in units]


def lay_out(units, **changes):
    settings = {"policy_version": 0, "num_step_tokens": 1, "num_step_completions": 1, "metrics": {}}
    return collate(units, **(settings | changes))


@pytest.fixture
def groups(prompts, teacher_prompts, random_tokens):
    """Four groups with images, unequal lengths, and every kind of advantage: mixed, none at all, unjudgeable."""
    lengths = [[3, 7, 1, 5], [4, 4, 2, 9], [6, 2, 1, 1], [8, 3, 5, 2]]
    advantages = [[0.5, -1.5, 0.0, 1.0], [-0.7, 0.0, 0.7, 0.0], [0.0] * 4, [1.2, -1.2, 0.0, 0.0]]
    unjudgeable = {(3, 2), (3, 3)}
    return [
        [
            rollout(prompt, tokens, advantage, teacher, valid=(i, j) not in unjudgeable)
            for j, (tokens, advantage) in enumerate(
                zip(random_tokens(lengths[i], seed=i), advantages[i], strict=True)
            )
        ]
        for i, (prompt, teacher) in enumerate(zip(prompts, teacher_prompts, strict=True))
    ]


def test_whole_groups_are_the_units_where_they_fit():
    groups = [sized_group("a", 5, [1, 2]), sized_group("b", 5, [3, 4])]
    assert shape(split_groups(groups, 2, None, True)) == [("a", [0, 1]), ("b", [0, 1])]


def test_a_group_is_cut_where_its_row_would_be_too_long():
    """Prompt 5: 5 + 3 + 4 = 12 fits into 12, one more token does not; 20 alone is too long but cannot be cut."""
    groups = [sized_group("a", 5, [3, 4, 1, 20, 2])]
    assert shape(split_groups(groups, 1, 12, True)) == [
        ("a", [0, 1]),
        ("a", [2]),
        ("a", [3]),
        ("a", [4]),
    ]
    assert row_tokens(split_groups(groups, 1, 12, True)[0]) == 12


def test_more_micro_batches_than_groups_cut_the_groups_with_most_completions():
    """Three completions and two: the three are halved first, then a half of two, the longer one first."""
    groups = [sized_group("a", 5, [1, 1, 1]), sized_group("b", 5, [1, 1])]
    assert shape(split_groups(groups, 3, None, True)) == [("a", [0]), ("a", [1, 2]), ("b", [0, 1])]
    assert shape(split_groups(groups, 4, None, True)) == [
        ("a", [0]),
        ("a", [1]),
        ("a", [2]),
        ("b", [0, 1]),
    ]
    assert len(split_groups(groups, 5, None, True)) == 5


def test_without_shared_prefixes_every_completion_is_a_unit():
    groups = [sized_group("a", 5, [1, 2]), sized_group("b", 5, [3])]
    assert shape(split_groups(groups, 1, None, False)) == [("a", [0]), ("a", [1]), ("b", [0])]


def test_more_micro_batches_than_completions_are_refused():
    with pytest.raises(ValueError, match=r"accumulate_grad_batches is 4.*3 completions"):
        split_groups([sized_group("a", 5, [1, 2, 3])], 4, None, True)


def test_bins_are_filled_longest_first_into_the_lightest():
    """Rows of 4 8 5 9 6 7 tokens: 9 | 8, 7 joins 8, 6 joins 9, 5 joins one of two 15s, 4 the other."""
    units = [sized_group(str(i), 1, [size - 1]) for i, size in enumerate([4, 8, 5, 9, 6, 7])]
    bins = balance(units, 2)
    assert [[row_tokens(unit) for unit in b] for b in bins] == [[5, 9, 6], [4, 8, 7]]


def test_bins_are_balanced_by_tokens_not_by_count():
    """One row of 60 tokens against six of 10: it stands alone."""
    units = [sized_group(str(i), 1, [size]) for i, size in enumerate([9, 9, 9, 59, 9, 9, 9])]
    assert [len(b) for b in balance(units, 2)] == [1, 6]


@pytest.mark.parametrize("num_bins", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("max_row_tokens", [None, 20])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_every_rollout_lands_in_exactly_one_bin_and_no_bin_is_empty(
    groups, num_bins, max_row_tokens, share_prefix
):
    units = split_groups(groups, num_bins, max_row_tokens, share_prefix)
    bins = balance(units, num_bins)
    landed = [id(r) for b in bins for unit in b for r in unit]
    assert sorted(landed) == sorted(id(r) for group in groups for r in group)
    assert len(bins) == num_bins
    assert all(bins)
    assert all(len({r.problem.id for r in unit}) == 1 for unit in units)
    loads = [sum(row_tokens(unit) for unit in b) for b in bins]
    assert max(loads) - min(loads) <= max(row_tokens(unit) for unit in units)


def test_a_micro_batch_by_hand():
    first, second = sized_group("a", 3, [2, 3]), sized_group("b", 2, [1])
    second[0] = rollout(second[0].student, [7], advantage=0.25, valid=False)
    batch = lay_out([first, second], policy_version=4, num_step_tokens=50, num_step_completions=9)
    assert batch.rollouts == (*first, *second)
    assert batch.token_ids.tolist() == [[7, 7, 0], [8, 8, 8], [7, 0, 0]]
    assert batch.completion_mask.tolist() == [
        [True, True, False],
        [True, True, True],
        [False, False, False],  # could not be judged
    ]
    expected = torch.tensor([[-0.1, -0.2, 0.0], [-0.1, -0.2, -0.3], [-0.1, 0.0, 0.0]])
    torch.testing.assert_close(batch.rollout_logprobs, expected)
    assert batch.advantages.tolist() == [0.0, 0.0, 0.25]
    assert batch.student.input_ids.tolist() == [[1, 2, 3, 7, 7, 8, 8, 8], [1, 2, 7, 0, 0, 0, 0, 0]]
    assert batch.student.predictor_index.tolist() == [[2, 3, 0], [2, 5, 6], [9, 0, 0]]
    assert batch.images is None
    assert (batch.policy_version, batch.num_step_tokens, batch.num_step_completions) == (4, 50, 9)


def test_an_unjudgeable_completion_has_no_loss_tokens(prompts):
    judged = rollout(prompts[2], [7, 8, 9])
    assert num_loss_tokens(judged) == 3
    assert num_loss_tokens(rollout(prompts[2], [7, 8, 9], valid=False)) == 0


def test_every_image_of_a_micro_batch_stands_in_it_once(groups):
    """Three unique images, of 16, 24 and 8 patches, in two views of sixteen completions."""
    batch = lay_out(groups)
    assert batch.images.grids.tolist() == [[1, 4, 4], [1, 4, 6], [1, 2, 4]]
    assert len(batch.images.pixel_values) == 16 + 24 + 8
    assert batch.student.image_index == (0, 0, 1, 2)


def test_an_image_that_only_the_teacher_sees_is_there_too(prompts, make_prompt, images):
    teacher = make_prompt("none", "look", [images["wide"]])
    batch = lay_out([[rollout(prompts[2], [7], 1.0, teacher)]])
    assert batch.student.image_index == ()
    assert batch.teacher.image_index == (0,)
    assert batch.images.grids.tolist() == [[1, 4, 6]]


def test_the_teacher_reads_only_completions_with_an_advantage(groups):
    batch = lay_out(groups)
    wanted = [i for i, r in enumerate(batch.rollouts) if r.advantage != 0]
    assert batch.teacher_index.tolist() == wanted == [0, 1, 3, 4, 6, 12, 13]
    assert batch.teacher.predictor_index.shape == (7, batch.token_ids.shape[1])
    assert batch.teacher.input_ids.shape[0] == 3  # the third group teaches nothing: no row
    assert (batch.teacher.branch_ids != PADDING).sum() == sum(
        len(group[0].teacher.token_ids)
        + sum(len(r.completion.token_ids) for r in group if r.advantage)
        for group in groups
        if any(r.advantage for r in group)
    )


def test_no_teacher_rows_where_no_teacher_is_needed(groups, prompts):
    assert lay_out(groups[2:3]).teacher is None
    assert lay_out(groups[2:3]).teacher_index.tolist() == []
    without = [[rollout(prompts[0], [7, 8], 1.0), rollout(prompts[0], [9], -1.0)]]
    assert lay_out(without).teacher is None


def score(policy, batch):
    """Return policy and teacher log-probs as training does; the teacher's are NaN where it is not asked. [B, T]"""
    features = policy.encode_images(batch.images)
    mask = batch.completion_mask
    logprobs = policy.logprobs(batch.student, batch.token_ids, mask, features, TEMPERATURE)
    teacher = torch.full_like(logprobs, float("nan"))
    if batch.teacher is not None:
        chosen = batch.teacher_index
        with torch.no_grad():
            teacher[chosen] = policy.logprobs(
                batch.teacher, batch.token_ids[chosen], mask[chosen], features, TEMPERATURE
            )
    return logprobs, teacher


def test_both_views_are_read_at_the_right_places(policy, groups, plain_logprobs):
    """Of each completion token, under x and under (x, r), against one plain forward per completion and view."""
    batch = lay_out(split_groups(groups, 6, 40, True))
    with torch.no_grad():
        student, teacher = score(policy, batch)
        for i, r in enumerate(batch.rollouts):
            tokens = r.completion.token_ids
            wanted = (
                plain_logprobs(policy, r.student, tokens, TEMPERATURE) if r.verdict.valid else []
            )
            torch.testing.assert_close(
                student[i][batch.completion_mask[i]], torch.as_tensor(wanted), atol=1e-5, rtol=0
            )
            if r.advantage:
                wanted = plain_logprobs(policy, r.teacher, tokens, TEMPERATURE)
                found = teacher[i, : len(tokens)]
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
                assert float((found - student[i, : len(tokens)]).abs().max()) > 1e-3  # r is seen
            else:
                assert teacher[i].isnan().all()


def step_loss(policy, groups, num_bins, max_row_tokens, share_prefix):
    """The loss of one optimizer step, summed over its micro-batches."""
    counts = [num_loss_tokens(r) for group in groups for r in group]
    total = 0.0
    for part in balance(split_groups(groups, num_bins, max_row_tokens, share_prefix), num_bins):
        batch = lay_out(
            part, num_step_tokens=sum(counts), num_step_completions=sum(map(bool, counts))
        )
        policy_logprobs, teacher_logprobs = score(policy, batch)
        credit = rlsd_credit(
            batch.advantages, policy_logprobs, teacher_logprobs, batch.completion_mask, 0.5, 0.2
        )
        total = total + clipped_policy_loss(
            policy_logprobs,
            policy_logprobs.detach() + 0.1 * batch.rollout_logprobs,  # ratios near 1
            credit,
            batch.completion_mask,
            0.2,
            0.28,
            3.0,
            denominator=batch.num_step_tokens,
        )
    return total


def test_the_loss_and_its_gradient_do_not_depend_on_the_cut(
    policy, groups, gradients_of, assert_same_gradients
):
    """K, row length, shared or repeated prompts, and the order of problems and completions."""
    whole = step_loss(policy, groups, 1, None, True)
    wanted = gradients_of(policy, whole)
    turned = [group[::-1] for group in groups[::-1]]
    cuts = [
        (groups, k, m, s) for k, m, s in itertools.product([1, 3, 8], [None, 40], [True, False])
    ]
    for cut in [*cuts, (turned, 2, None, True)]:
        loss = step_loss(policy, *cut)
        assert loss.item() == pytest.approx(whole.item(), abs=1e-6)
        assert_same_gradients(gradients_of(policy, loss), wanted)
