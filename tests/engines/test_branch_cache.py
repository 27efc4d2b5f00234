"""Keys and values of branches, and what each branch's newest token sees."""

import pytest
import torch

from rlsd_lightning.engines.branch_cache import BranchCache, branch_visibility


def filled(lengths, layers=2, rows=3):
    """Fill a cache as forward passes do; return it with what was put in, by layer."""
    cache, given = BranchCache(), [([], []) for _ in range(layers)]
    for length in lengths:
        for layer in range(layers):
            keys, values = torch.randn(2, rows, 2, length, 4)
            given[layer][0].append(keys)
            given[layer][1].append(values)
            found = cache.update(keys, values, layer, {"cache_position": None})
            for part, parts in zip(found, given[layer], strict=True):
                assert torch.equal(part, torch.cat(parts, dim=2))
    return cache, given


@pytest.mark.parametrize("lengths", [[5], [5, 2, 2, 2, 2, 2], [1, 1, 1], [2, 30]])
def test_an_update_returns_everything_so_far(lengths):
    """Through several doublings, and through a step larger than a doubling."""
    cache, _ = filled(lengths)
    assert cache.get_seq_length() == cache.get_seq_length(1) == sum(lengths)


def test_buffers_grow_by_doubling():
    """300 steps of one token: 1, 2, 4, ... 512 are ten buffers, not 300 copies of everything."""
    cache, places = BranchCache(), set()
    buffers = []  # kept, so that no address is used again
    for _ in range(300):
        keys, values = cache.update(*torch.randn(2, 1, 1, 1, 4), 0)
        buffers.append((keys, values))
        places.add(keys.data_ptr())
    assert len(places) <= 10


def test_an_empty_cache_has_no_tokens():
    assert BranchCache().get_seq_length() == 0


def test_rows_that_are_kept_go_on_where_they_were():
    cache, given = filled([4, 2, 2])
    cache.keep_rows(torch.tensor([2, 0]))
    for layer, (keys, values) in enumerate(given):
        newest = torch.randn(2, 2, 2, 2, 4)
        found = cache.update(*newest, layer)
        for part, parts, new in zip(found, (keys, values), newest, strict=True):
            assert torch.equal(part, torch.cat([torch.cat(parts, dim=2)[[2, 0]], new], dim=2))


def test_a_branch_sees_the_prompt_and_its_own_tokens():
    """Prompts of 2 and 1 tokens in rows of 2; two branches after two steps, interleaved step by step."""
    seen = branch_visibility(torch.tensor([[True, True], [True, False]]), group_size=2, num_steps=2)
    assert seen.shape == (2, 1, 2, 6)
    assert seen[:, 0].int().tolist() == [
        [[1, 1, 1, 0, 1, 0], [1, 1, 0, 1, 0, 1]],
        [[1, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1]],
    ]
