"""The estimate against distributions small enough to sum over everything that could be written."""

import itertools
import math

import pytest
import torch

from rlsd_lightning.leakage.information import (
    candidate_problems,
    probe_information,
    spread_over_problems,
    token_information,
)
from rlsd_lightning.types import Problem, Prompt
from tests.helpers.fakes import PlainEncoder
from tests.helpers.rollouts import rollout, text_prompt

NUM_TOKENS, NUM_CANDIDATES = 3, 4


def tables(seed, sharpness):
    """A distribution of the first token, and one of the second for each first token. [V], [V, V]"""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(NUM_TOKENS, generator=generator, dtype=torch.float64)
    second = torch.randn(NUM_TOKENS, NUM_TOKENS, generator=generator, dtype=torch.float64)
    return (sharpness * first).softmax(-1), (sharpness * second).softmax(-1)


@pytest.fixture
def policy():
    return tables(seed=0, sharpness=1.0)


@pytest.fixture
def teacher():
    """The teacher's tables under each candidate reference."""
    return [tables(seed=1 + c, sharpness=2.0) for c in range(NUM_CANDIDATES)]


def true_information(policy, teacher):
    """Sum over t of I(Y_t; R | Y_<t), by its definition: beginnings from the policy, mean over R of KL(P_T(R) || mean)."""

    def mean_kl(rows):
        marginal = torch.stack(rows).mean(0)
        return sum(float((row * (row / marginal).log()).sum()) for row in rows) / len(rows)

    at_first = mean_kl([first for first, _ in teacher])
    at_second = sum(
        float(policy[0][y]) * mean_kl([second[y] for _, second in teacher])
        for y in range(NUM_TOKENS)
    )
    return at_first + at_second


def expected_estimate(policy, teacher, max_weight):
    """Sum of the estimate over every completion that the policy can write, times its probability."""
    total = 0.0
    for y, z in itertools.product(range(NUM_TOKENS), repeat=2):
        sampled = torch.stack([policy[0][y], policy[1][y, z]])
        scores = torch.stack([torch.stack([first[y], second[y, z]]) for first, second in teacher])
        terms, _ = token_information(scores.log(), sampled.log(), max_weight)
        total += float(sampled.prod() * terms.sum())
    return total


def test_the_estimate_is_the_mutual_information_on_average(policy, teacher):
    truth = true_information(policy, teacher)
    assert 0.2 < truth < 2 * math.log(NUM_CANDIDATES)
    assert expected_estimate(policy, teacher, max_weight=1e9) == pytest.approx(truth, abs=1e-12)


def test_weights_that_are_cut_make_it_too_low_and_never_too_high(policy, teacher):
    truth = true_information(policy, teacher)
    found = [expected_estimate(policy, teacher, max_weight=cut) for cut in (1.0, 1.5, 3.0, 1e9)]
    assert found == sorted(found)
    assert found[0] < truth - 0.01


def test_weights_average_to_one(policy, teacher):
    total = 0.0
    for y in range(NUM_TOKENS):
        scores = torch.stack([first[y : y + 1] for first, _ in teacher])
        _, weights = token_information(scores.log(), policy[0][y : y + 1].log(), 1e9)
        total += float(policy[0][y] * weights)
    assert total == pytest.approx(1.0, abs=1e-12)


def test_a_teacher_that_ignores_its_reference_tells_nothing(policy):
    same = [tables(seed=7, sharpness=2.0)] * NUM_CANDIDATES
    assert expected_estimate(policy, same, max_weight=1e9) == pytest.approx(0.0, abs=1e-12)


def test_a_teacher_that_copies_its_reference_tells_which_it_was(policy):
    certain = [
        (torch.eye(3, dtype=torch.float64)[c], torch.full((3, 3), 1 / 3.0)) for c in range(3)
    ]
    scores = torch.stack([first for first, _ in certain]).clamp(min=1e-300).log()
    terms, weights = token_information(scores, policy[0].log(), max_weight=1e9)
    assert float((policy[0] * terms).sum()) == pytest.approx(math.log(3), abs=1e-9)
    torch.testing.assert_close(weights, (1 / 3 / policy[0]))


def test_tokens_impossible_under_every_reference_tell_nothing():
    terms, weights = token_information(
        torch.full((2, 1), -800.0, dtype=torch.float64), torch.tensor([-1.0]).double(), 10.0
    )
    assert (terms.tolist(), weights.tolist()) == ([0.0], [0.0])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 3\] and sampling_logprobs \[2\]"):
        token_information(torch.zeros(2, 3), torch.zeros(2), 10.0)


def problem(name, answer, reference=None):
    return Problem(id=name, prompt=f"{name}?", answer=answer, reference=reference or f"so {answer}")


def test_candidates_keep_the_question_and_differ_in_the_reference_where_they_can():
    own, alike, other, third = (
        problem(name, answer) for name, answer in [("a", "1"), ("b", "1"), ("c", "2"), ("d", "3")]
    )
    found = candidate_problems(own, [own, alike, other, third], num_shuffled=3)
    assert {one.prompt for one in found} == {"a?"}
    assert [one.reference for one in found] == ["so 1", "so 2", "so 3", "so 1"]
    assert [one.answer for one in found] == ["1", "2", "3", "1"]


def test_a_problem_is_no_candidate_twice():
    own, other = problem("a", "1"), problem("b", "2")
    found = candidate_problems(own, [own, other], num_shuffled=3)
    assert [one.answer for one in found] == ["1", "2"]


def test_completions_of_as_many_problems_as_possible_are_probed():
    first, second = text_prompt("a", 3), text_prompt("b", 3)
    rollouts = [rollout(first, [1]), rollout(first, [2]), rollout(first, []), rollout(second, [3])]
    found = [r.completion.token_ids for r in spread_over_problems(rollouts)]
    assert found == [[1], [3], [2]]


def group(text_policy, plain_logprobs, names):
    """One completion for each of some problems, with the log-probs it had when sampled."""
    rollouts = []
    for place, name in enumerate(names):
        one, token_ids = problem(name, str(place)), [40 + place, 50, 60 + place]
        prompt = PlainEncoder().student(one)
        made = rollout(prompt, token_ids)
        logprobs = plain_logprobs(text_policy, prompt, token_ids).tolist()
        object.__setattr__(made, "problem", one)
        object.__setattr__(made.completion, "logprobs", logprobs)
        rollouts.append(made)
    return rollouts


def test_a_step_is_probed_as_a_slow_loop_would(text_policy, plain_logprobs):
    rollouts = group(text_policy, plain_logprobs, "abc")
    found = probe_information(
        rollouts, PlainEncoder(), text_policy, 1.0, num_probed=2, num_shuffled=2, max_weight=10.0
    )
    terms, weights = [], []
    for number, references in ((0, ["so 0", "so 1", "so 2"]), (1, ["so 1", "so 0", "so 2"])):
        one = rollouts[number]
        scores = []
        for reference in references:
            ids = [ord(letter) for letter in f"{one.problem.prompt} {reference}"]
            view = Prompt(id="", token_ids=ids, position_ids=torch.arange(len(ids)).unsqueeze(0))
            scores.append(
                plain_logprobs(text_policy, view, one.completion.token_ids).double().detach()
            )
        for t in range(3):
            likely = [math.exp(score[t]) for score in scores]
            known = [p / sum(likely) for p in likely]
            weight = min(sum(likely) / 3 / math.exp(one.completion.logprobs[t]), 10.0)
            terms.append(weight * (math.log(3) + sum(p * math.log(p) for p in known)))
            weights.append(weight)
    assert float(found["information_nats"]) == pytest.approx(sum(terms) / 6, rel=1e-4)
    assert float(found["information_weight_mean"]) == pytest.approx(sum(weights) / 6, rel=1e-4)
    assert found["information_nats"].count == 6


def test_nothing_is_probed_where_nothing_is_asked_for(text_policy, plain_logprobs):
    rollouts = group(text_policy, plain_logprobs, "a")
    limits = {"num_shuffled": 1, "max_weight": 10.0}
    assert (
        probe_information(rollouts, PlainEncoder(), text_policy, 1.0, num_probed=0, **limits) == {}
    )
    with pytest.raises(ValueError, match="num_probed is above 0"):
        probe_information(rollouts, PlainEncoder(), text_policy, 1.0, num_probed=1, **limits)
