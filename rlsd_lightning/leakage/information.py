"""How much the teacher's next token says of the reference it reads: I(Y_t; R given X, Y_<t), in nats.

RLSD (arXiv:2604.03128) shows that this mutual information is the part of a self-distillation loss that no policy can
remove, as it does not read r: matching the teacher, the policy can only learn to act as if it had.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rlsd_lightning.data.canaries import with_reference_of
from rlsd_lightning.metrics import Mean
from rlsd_lightning.models import Policy
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.rescoring import rescore
from rlsd_lightning.types import Problem, Rollout


def token_information(
    candidate_logprobs: Tensor, sampling_logprobs: Tensor, max_weight: float
) -> tuple[Tensor, Tensor]:
    """Estimate, at each token of a completion, how much the teacher's choice there says of its reference.

    The joint distribution that is measured: R is drawn evenly from C candidate references, r_1 the problem's own and
    the others those of other problems; the beginning y_<t is written by the policy S on x alone; Y_t is drawn from
    the teacher, P_T(. | x, R, y_<t). As S never reads R, the beginning is independent of it given x, so Y_t has the
    marginal Q = mean_c P_T(. | x, r_c, y_<t), with equal weights at every t, and

        I(Y_t; R | x, y_<t) = E_{y ~ Q} [log C - H(pi(y))],   pi_c(y) = P_T(y | r_c) / sum_c' P_T(y | r_c')

    pi being what an observer of y knows of R. Equally it is the mean over c of KL(P_T(. | r_c) || Q): the distance
    that on-policy self-distillation leaves between the teacher and the best policy that cannot read R.

    Our tokens are drawn from S and not from Q, so each is weighted by Q / S. This is a ratio of single tokens: the
    beginning needs none, S wrote it in the joint distribution too. The estimate is unbiased as long as no weight is
    cut, and too low, never too high, where max_weight cuts. With two candidates it is the Jensen-Shannon divergence.

    Args:
        candidate_logprobs: log P_T of the completion's tokens under each candidate reference. [C, T]
        sampling_logprobs: log P_S of the same tokens when they were sampled, over the whole vocabulary. [T]
        max_weight: weights are cut here.

    Returns:
        Terms whose mean over tokens is the estimate, each in [0, max_weight * log C] nats [T], and the weights [T].

    Example:
        >>> half = math.log(0.5)
        >>> same = torch.tensor([[half], [half]])
        >>> token_information(same, torch.tensor([half]), max_weight=10.0)[0]
        tensor([0.])
        >>> told = torch.tensor([[0.0], [-100.0]])  # only one of the two references leads to this token
        >>> token_information(told, torch.tensor([half]), max_weight=10.0)[0]
        tensor([0.6931])
    """
    if candidate_logprobs.dim() != 2 or candidate_logprobs.shape[1:] != sampling_logprobs.shape:
        raise ValueError(
            f"token_information: candidate_logprobs has shape {list(candidate_logprobs.shape)} and sampling_logprobs "
            f"{list(sampling_logprobs.shape)}, need [C, T] and [T]. Score the same tokens under each reference."
        )
    known = candidate_logprobs.log_softmax(0).exp()
    told = math.log(len(candidate_logprobs)) - torch.special.entr(known).sum(0)
    marginal = candidate_logprobs.logsumexp(0) - math.log(len(candidate_logprobs))
    weights = (marginal - sampling_logprobs).exp().clamp(max=max_weight)
    return weights * told.clamp(min=0), weights


def candidate_problems(
    problem: Problem, others: Sequence[Problem], num_shuffled: int
) -> list[Problem]:
    """Return the problem, and as many copies of it that carry another problem's reference and answer.

    Candidates are taken in order, first from those whose reference or answer differs.

    Args:
        problem: with its own reference.
        others: problems to take references from; the problem itself may be among them.
        num_shuffled: how many, as far as there are others.

    Example:
        >>> a, b, c = (Problem(id=name, prompt=name, answer=answer) for name, answer in ["a1", "b1", "c2"])
        >>> [(one.id, one.answer) for one in candidate_problems(a, [a, b, c], num_shuffled=1)]
        [('a', '1'), ('a', '2')]
    """
    donors = [other for other in others if other.id != problem.id]
    own = (problem.reference, problem.answer)
    donors.sort(key=lambda other: (other.reference, other.answer) == own)
    return [problem, *(with_reference_of(problem, other) for other in donors[:num_shuffled])]


def probe_information(
    rollouts: Sequence[Rollout],
    encoder: PromptEncoder,
    teacher: Policy,
    temperature: float,
    *,
    num_probed: int,
    num_shuffled: int,
    max_weight: float,
) -> dict[str, Mean]:
    """Estimate the information per token over some completions of a step, by scoring them under several references.

    One forward pass per completion, with a row per reference. Deterministic: nothing is drawn.

    Args:
        rollouts: of a step, of two problems or more.
        encoder: renders the teacher's view.
        teacher: the weights that read (x, r).
        temperature: of the sampling.
        num_probed: completions that are scored, of as many problems as possible.
        num_shuffled: wrong references beside the true one.
        max_weight: see token_information.

    Returns:
        information_nats, and information_weight_mean: 1 but for chance, unless weights were cut or the sampling
        left tokens out (top_p, top_k). Nothing if no completion was asked for.

    Raises:
        ValueError: if there is one problem only, so no other reference.
    """
    problems = list({rollout.problem.id: rollout.problem for rollout in rollouts}.values())
    probed = spread_over_problems(rollouts)[:num_probed]
    if probed and len(problems) < 2:
        raise ValueError(
            "callbacks.leakage_probe.num_probed is above 0, but a step holds 1 problem on this rank, so there is no "
            "other reference. Raise rollout.problems_per_step, or set num_probed=0."
        )
    terms, weights = [], []
    for rollout in probed:
        candidates = candidate_problems(rollout.problem, problems, num_shuffled)
        views = [(encoder.teacher(one), [rollout.completion.token_ids]) for one in candidates]
        scores = [score for (score,) in rescore(teacher, views, temperature)]
        sampled = torch.tensor(rollout.completion.logprobs, dtype=torch.float64)
        term, weight = token_information(torch.stack(scores).double().cpu(), sampled, max_weight)
        terms.append(term)
        weights.append(weight)
    if not probed:
        return {}
    num_tokens = sum(len(term) for term in terms)
    return {
        "information_nats": Mean(float(torch.cat(terms).sum()), num_tokens),
        "information_weight_mean": Mean(float(torch.cat(weights).sum()), num_tokens),
    }


def spread_over_problems(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Order the completions that have tokens: the first of each problem, then the second of each, and so on."""
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.completion.token_ids:
            groups.setdefault(rollout.problem.id, []).append(rollout)
    rows = itertools.zip_longest(*groups.values())
    return [rollout for row in rows for rollout in row if rollout is not None]
