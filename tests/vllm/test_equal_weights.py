"""vLLM in this process samples from the weights it was given last: text and images, tied and untied embeddings."""

import pytest
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.types import Sampling
from rlsd_lightning.weight_check import first_layer_that_differs, fixed_prompts
from rlsd_lightning.weights import weight_names
from tests.helpers.vllm_case import EXACT


@pytest.fixture(params=["text_untied", "text_tied", "vl_untied", "vl_tied"], scope="session")
def case(request, living):
    return living(request.param)


def test_after_each_step_the_engine_samples_from_the_policys_weights(case):
    plain = TransformersEngine()
    plain.bind(case.policy, case.encoder.tokenizer)
    for _ in range(5):
        case.step()
        case.sync()
        assert case.gap() <= EXACT
        greedy = Sampling(max_completion_tokens=12, temperature=0.0)
        ours = plain.generate(case.prompts, greedy, 1)
        theirs = case.engine.generate(case.prompts, greedy, 2)
        for (mine,), group in zip(ours, theirs, strict=True):
            assert [each.token_ids for each in group] == [mine.token_ids] * 2
            assert [each.text for each in group] == [mine.text] * 2
        assert {each.weight_versions for group in theirs for each in group} == {(case.version,)}


def test_the_names_of_all_weights_are_known(case):
    names = weight_names(case.policy)
    case.engine.check_names(names)
    last = next(name for name in reversed(names) if name.endswith("mlp.up_proj.weight"))
    with pytest.raises(EngineError, match=f"1 weights that vLLM's model has are not sent .{last}"):
        case.engine.check_names([name for name in names if name != last])
    with pytest.raises(EngineError, match=r"1 that are sent have no place in it \(model.extra\)"):
        case.engine.check_names([*names, "model.extra"])


def test_layers_agree_and_a_changed_one_is_found(case):
    prompts = fixed_prompts(case.encoder)
    assert first_layer_that_differs(case.policy, case.engine, prompts, "32") is None
    name = next(n for n in weight_names(case.policy) if n.endswith("layers.1.mlp.down_proj.weight"))
    weight = case.policy.model.get_parameter(name)
    with torch.no_grad():
        weight.mul_(1.5)
        found = first_layer_that_differs(case.policy, case.engine, prompts, "32")
        weight.div_(1.5)
    assert found == name.removesuffix(".mlp.down_proj.weight")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_tied", "vl_tied"])
def test_sixteen_bits_agree_within_their_precision(living, name):
    case = living(name, dtype="bfloat16")
    for _ in range(5):
        case.step()
        case.sync()
        assert case.gap(max_completion_tokens=24) <= 5e-2


@pytest.mark.slow
def test_at_another_temperature_logprobs_are_over_what_may_be_drawn(living):
    case = living("vl_tied", temperature=0.7)
    left_out = case.engine.logprobs_leave_out
    assert left_out == case.policy.family.placeholder_token_ids
    assert case.gap(temperature=0.7, left_out=left_out) <= EXACT
    assert case.gap(temperature=0.7) > 1e-3
