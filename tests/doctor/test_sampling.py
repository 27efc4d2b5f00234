"""Engines that sample from the weights that are trained, and some that do not."""

import pytest
import torch

from rlsd_lightning.doctor.sampling import check_logprobs, judge_gap
from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.types import Problem, Sampling
from tests.conftest import speckled

SAMPLING = Sampling(max_completion_tokens=64, temperature=0.7)


def check(policy, processor, engine, precision="32-true"):
    template = PromptTemplate(
        student="{{ problem.prompt }}", teacher="{{ student }}{{ reference }}"
    )
    encoder = PromptEncoder(processor, template, policy.family)
    engine.bind(policy, encoder.tokenizer)
    image = speckled(32, 32, 1)
    problems = [Problem("1", "2+2?"), Problem("2", "how many <image> red?", images=[image])]
    return check_logprobs(policy, engine, encoder, problems, SAMPLING, precision)


class Forgetful(TransformersEngine):
    """Takes new weights and leaves them lying."""

    def load_weights(self, named_tensors, version):
        list(named_tensors)


class Hot(TransformersEngine):
    """Reports log-probs that are 0.01 nats too high."""

    def generate(self, prompts, sampling, group_size):
        for group in (groups := super().generate(prompts, sampling, group_size)):
            for completion in group:
                completion.logprobs[:] = [logprob + 0.01 for logprob in completion.logprobs]
        return groups


@pytest.mark.parametrize(
    ("shares", "how"),
    [(True, "shares the policy's weights"), (False, "after a sync of changed weights")],
)
def test_an_engine_with_the_trained_weights_agrees(policy, processor, shares, how):
    found = check(policy, processor, TransformersEngine(shares_policy_weights=shares))
    assert found.level == "ok"
    assert found.seen.startswith(f"TransformersEngine {how}: over 32 tokens ")


def test_an_engine_that_keeps_its_old_weights_is_found_out(policy, processor):
    found = check(policy, processor, Forgetful(shares_policy_weights=False))
    assert found.level == "fault"
    assert "Rollouts would not be of the policy that is trained" in found.advice


def test_how_much_is_too_much_depends_on_the_precision(policy, processor):
    assert check(policy, processor, Hot()).level == "fault"
    assert check(policy, processor, Hot(), "bf16-mixed").level == "ok"


def test_a_nan_is_a_fault():
    gap = torch.tensor([0.0, float("nan")])
    assert judge_gap("Engine", "synced", gap, "32").level == "fault"
