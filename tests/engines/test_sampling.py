"""Draws by hand, as frequencies, and as streams of their own."""

import math

import pytest
import torch

from rlsd_lightning.engines.sampling import draw, truncate, uniforms
from rlsd_lightning.types import Sampling

NEVER = torch.tensor([0.999999])


def sampling(**settings):
    return Sampling(max_completion_tokens=1, **settings)


def log_of(*probabilities):
    return torch.tensor([probabilities]).log()


def frequencies(logits, settings, banned=None, written=None, draws=40_000):
    """Draw many times from one row of logits; return how often each token came."""
    uniform = uniforms(11, ["p"], group_size=1, num_tokens=draws)[0, 0]
    written = None if written is None else written.expand(draws, -1)
    tokens, _ = draw(logits.expand(draws, -1), uniform, settings, banned, written)
    return torch.bincount(tokens, minlength=logits.shape[1]) / draws


def total_variation(found, wanted):
    return float((found - torch.tensor(wanted)).abs().sum() / 2)


def test_a_token_is_the_inverse_of_the_cumulated_distribution():
    """0.2 | 0.5 | 0.3 cumulate to 0.2, 0.7, 1."""
    logits = log_of(0.2, 0.5, 0.3).expand(5, -1)
    tokens, _ = draw(logits, torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71]), sampling(), None)
    assert tokens.tolist() == [0, 0, 1, 1, 2]


def test_frequencies_match_the_distribution():
    found = frequencies(log_of(0.05, 0.45, 0.2, 0.3), sampling())
    assert total_variation(found, [0.05, 0.45, 0.2, 0.3]) < 0.01


def test_frequencies_match_the_distribution_at_a_temperature():
    """At temperature 0.5 probabilities are squared: 1, 4, 9 of 14 from 1, 2, 3 of 6."""
    found = frequencies(log_of(1 / 6, 2 / 6, 3 / 6), sampling(temperature=0.5))
    assert total_variation(found, [1 / 14, 4 / 14, 9 / 14]) < 0.01


def test_frequencies_match_what_top_k_and_top_p_leave_renormalised():
    """top_k keeps 0.4, 0.3, 0.2 of 0.9; top_p = 0.75 needs 0.675 of it: 0.4 and 0.3, renormalised by 0.7."""
    found = frequencies(log_of(0.4, 0.1, 0.3, 0.2), sampling(top_k=3, top_p=0.75))
    assert total_variation(found, [4 / 7, 0.0, 3 / 7, 0.0]) < 0.01
    assert found[1] == found[3] == 0


def test_banned_tokens_are_never_drawn_and_the_others_keep_their_shares():
    found = frequencies(log_of(0.9, 0.06, 0.04), sampling(), banned=torch.tensor([0]))
    assert found[0] == 0
    assert total_variation(found, [0.0, 0.6, 0.4]) < 0.01


def test_top_k_counts_only_tokens_that_may_be_drawn():
    found = frequencies(log_of(0.5, 0.3, 0.15, 0.05), sampling(top_k=2), banned=torch.tensor([0]))
    assert total_variation(found, [0.0, 2 / 3, 1 / 3, 0.0]) < 0.01


def test_a_presence_penalty_is_taken_from_the_logits_of_what_is_written():
    """At temperature 0.5 a penalty of ln 2 divides what is written by 4: (0.5^2 / 4, 0.3^2, 0.2^2) renormalised."""
    penalised = sampling(temperature=0.5, presence_penalty=math.log(2.0))
    written = torch.tensor([[True, False, False]])
    found = frequencies(log_of(0.5, 0.3, 0.2), penalised, written=written)
    weights = [0.25 / 4, 0.09, 0.04]
    assert total_variation(found, [weight / sum(weights) for weight in weights]) < 0.01


def test_a_greedy_draw_feels_the_penalty_and_its_logprob_does_not():
    penalised = sampling(temperature=0, presence_penalty=1.0)
    written = torch.tensor([[True, False, False]])
    tokens, logprobs = draw(log_of(0.5, 0.3, 0.2), torch.zeros(1), penalised, None, written)
    assert tokens.tolist() == [1]
    assert logprobs.exp().tolist() == pytest.approx([0.3])


def test_greedy_takes_the_most_likely_token_that_is_allowed():
    logits = log_of(0.5, 0.3, 0.2)
    assert draw(logits, NEVER, sampling(temperature=0), None)[0].tolist() == [0]
    assert draw(logits, NEVER, sampling(temperature=0), torch.tensor([0]))[0].tolist() == [1]


def test_greedy_logprobs_are_those_at_temperature_one():
    _, logprobs = draw(log_of(0.5, 0.3, 0.2), NEVER, sampling(temperature=0), None)
    assert float(logprobs.exp()) == pytest.approx(0.5, abs=1e-6)


def test_logprobs_are_of_the_whole_distribution_whatever_is_left_out():
    """Token 2 is all that top-k, top-p and the ban leave; at temperature 0.5 it has 9 of 1 + 4 + 9 + 16."""
    logits = log_of(0.1, 0.2, 0.3, 0.4)
    settings = sampling(temperature=0.5, top_k=1, top_p=0.5)
    tokens, logprobs = draw(logits, torch.tensor([0.5]), settings, torch.tensor([3]))
    assert tokens.tolist() == [2]
    assert float(logprobs.exp()) == pytest.approx(9 / 30, abs=1e-6)


def test_the_largest_uniform_never_reaches_a_token_without_probability():
    """Thousands of equal tokens, whose float32 sum is not exactly 1, before a few that are banned."""
    logits = torch.zeros(4, 5003)
    largest = torch.full((4,), 1.0).nextafter(torch.zeros(1))
    tokens, _ = draw(logits, largest, sampling(), torch.tensor([5000, 5001, 5002]))
    assert int(tokens.max()) < 5000


def test_the_smallest_uniform_never_reaches_a_token_without_probability():
    tokens, _ = draw(torch.zeros(1, 5), torch.zeros(1), sampling(), torch.tensor([0, 1]))
    assert tokens.tolist() == [2]


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, [1, 1, 1, 1]),
        (1, 1.0, [0, 1, 0, 0]),
        (3, 1.0, [0, 1, 1, 1]),
        (9, 1.0, [1, 1, 1, 1]),  # more than there are
        (0, 0.3, [0, 1, 0, 0]),  # less than the most likely token has: it stays
        (0, 0.45, [0, 1, 0, 1]),  # 0.4 is not enough, so the next one comes in
        (0, 0.75, [0, 1, 1, 1]),
        (2, 0.5, [0, 1, 0, 0]),  # of the 0.7 that top-k leaves, half is 0.35
        (2, 0.6, [0, 1, 0, 1]),  # 0.42 of 0.7: one token is not enough
    ],
)
def test_truncation_by_hand(top_k, top_p, kept):
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    wanted = probabilities * torch.tensor(kept)
    assert torch.equal(truncate(probabilities, top_k, top_p), wanted)


def test_rows_are_truncated_each_by_itself():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    assert truncate(probabilities, 1, 1.0).nonzero()[:, 1].tolist() == [0, 2]
    assert truncate(probabilities, 0, 0.8).nonzero()[:, 1].tolist() == [0, 1, 1, 2]


def test_a_stream_belongs_to_seed_prompt_and_place():
    base = uniforms(7, ["a", "b"], group_size=3, num_tokens=50)
    assert base.shape == (2, 3, 50)
    assert torch.equal(uniforms(7, ["b"], 3, 50)[0], base[1])  # whatever else is in the batch
    assert torch.equal(
        uniforms(7, ["a", "b"], 2, 20), base[:, :2, :20]
    )  # whatever the group and the limit
    rows = [*base.flatten(0, 1), *uniforms(8, ["a", "b"], 3, 50).flatten(0, 1)]
    assert len({tuple(row.tolist()) for row in rows}) == 12  # and no two streams are alike


def test_place_and_id_do_not_run_into_each_other():
    """Seed 1, place 12 and seed 11, place 2 must not spell the same key."""
    first = uniforms(1, ["x"], 13, 8)[0, 12]
    second = uniforms(11, ["x"], 13, 8)[0, 2]
    assert not torch.equal(first, second)


def test_uniforms_are_uniform_and_independent_of_one_another():
    """200,000 draws: bins within 5 standard deviations, and no correlation between neighbours in a stream."""
    drawn = uniforms(3, [f"p{i}" for i in range(100)], group_size=20, num_tokens=100)
    assert float(drawn.min()) >= 0.0
    assert float(drawn.max()) < 1.0
    counts = torch.histc(drawn, bins=10, min=0, max=1)
    assert float((counts - 20_000).abs().max()) < 5 * (200_000 * 0.1 * 0.9) ** 0.5
    centred = drawn - 0.5
    for other in (centred[:, :, 1:], centred[:, 1:], centred[1:]):
        mine = centred[: other.shape[0], : other.shape[1], : other.shape[2]]
        assert abs(float((mine * other).mean())) < 5 / 12 / other.numel() ** 0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_a_gpu_no_token_without_probability_is_drawn_either():
    """Parallel sums of float32 need not rise from token to token: top-k of a large vocabulary, many draws."""
    generator = torch.Generator("cuda").manual_seed(0)
    uniform = uniforms(0, ["p"], group_size=1, num_tokens=2048)[0, 0].cuda()
    for _ in range(20):
        logits = 3 * torch.randn(1, 151_936, device="cuda", generator=generator).expand(2048, -1)
        tokens, _ = draw(logits, uniform, sampling(top_k=20), None)
        assert set(tokens.tolist()) <= set(logits[0].topk(20).indices.tolist())
