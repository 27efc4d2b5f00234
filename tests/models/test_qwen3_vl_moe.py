"""A mixture of experts is read, packed and trained as the dense Qwen3-VL is."""

import pytest
import torch
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from rlsd_lightning.models import Policy, family_of
from rlsd_lightning.packing import image_batch, pack_rows


@pytest.fixture
def moe_policy(policy):
    """A tiny real Qwen3-VL-MoE, 8 experts of which a token uses 2, with the dense model's other sizes."""
    dense = policy.model.config
    text, vision = dense.text_config.to_dict(), dense.vision_config.to_dict()
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = Qwen3VLMoeConfig(
        text_config=text | experts | {"model_type": "qwen3_vl_moe_text"},
        vision_config=vision | {"model_type": "qwen3_vl_moe_vision"},
        image_token_id=dense.image_token_id,
        video_token_id=dense.video_token_id,
        vision_start_token_id=dense.vision_start_token_id,
        vision_end_token_id=dense.vision_end_token_id,
        tie_word_embeddings=True,
    )
    model = Qwen3VLMoeForConditionalGeneration(config).eval()
    return Policy(model, family_of(config))


def scored(policy, prompt, completions):
    """Log-probs of completions that share one row."""
    rows = pack_rows(
        [(prompt, completions)], {image.key: i for i, image in enumerate(prompt.images)}
    )
    width = max(map(len, completions))
    token_ids = torch.tensor([c + [0] * (width - len(c)) for c in completions])
    mask = torch.tensor([[True] * len(c) + [False] * (width - len(c)) for c in completions])
    features = policy.encode_images(image_batch(prompt.images))
    return policy.logprobs(rows, token_ids, mask, features, temperature=1.0)


def test_completions_that_share_a_prompt_score_as_each_alone(
    moe_policy, prompts, random_tokens, plain_logprobs
):
    completions = random_tokens([5, 3])
    with torch.no_grad():
        found = scored(moe_policy, prompts[1], completions)
        for row, completion in zip(found, completions, strict=True):
            wanted = plain_logprobs(moe_policy, prompts[1], completion)
            torch.testing.assert_close(row[: len(completion)], wanted, atol=1e-5, rtol=0)


def test_the_policys_loss_moves_experts_router_and_vision_tower(moe_policy, prompts, random_tokens):
    scored(moe_policy, prompts[1], random_tokens([5, 3])).sum().backward()
    layer = moe_policy.model.model.language_model.layers[0].mlp
    for weight in (
        layer.gate.weight,
        layer.experts.down_proj,
        moe_policy.model.model.visual.merger.linear_fc1.weight,
    ):
        assert float(weight.grad.abs().max()) > 0
