"""Models of a few hundred thousand weights with the presets' architectures, and a micro-batch as training runs it."""

import contextlib

import torch
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from rlsd_lightning.models import Policy, family_of
from rlsd_lightning.packing import image_batch, pack_rows
from rlsd_lightning.planning.architecture import architecture_of
from rlsd_lightning.planning.engines import PolicyEngine
from rlsd_lightning.planning.hardware import gpu_named
from rlsd_lightning.planning.setup import Assumptions, Parallel, Setup
from rlsd_lightning.planning.workload import Workload
from rlsd_lightning.types import ProcessedImage, Prompt

TEXT = {
    "vocab_size": 600,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": False,
}
VISION = {
    "depth": 3,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_heads": 4,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 128,
    "num_position_embeddings": 256,
    "deepstack_visual_indexes": [1],
}
IMAGE = 550
GRID = (1, 16, 16)
IMAGE_TOKENS = 64
PRECISIONS = {
    "float32": ("32-true", torch.float32),
    "autocast": ("bf16-mixed", torch.float32),
    "bfloat16": ("bf16-true", torch.bfloat16),
}


def text_policy(dtype, *, checkpointing, attention="sdpa"):
    config = Qwen3Config(**TEXT, max_position_embeddings=4096, attn_implementation=attention)
    model = Qwen3ForCausalLM(config)
    return as_policy(model, dtype, checkpointing)


def expert_policy(dtype, *, checkpointing):
    experts = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 96}
    config = Qwen3MoeConfig(**TEXT, **experts, mlp_only_layers=[], max_position_embeddings=4096)
    return as_policy(Qwen3MoeForCausalLM(config), dtype, checkpointing)


def vision_policy(dtype, *, checkpointing, attention="sdpa"):
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [8, 4, 4],
        "mrope_interleaved": True,
    }
    config = Qwen3VLConfig(
        text_config=TEXT | {"rope_parameters": rope, "max_position_embeddings": 4096},
        vision_config=VISION,
        image_token_id=IMAGE,
        video_token_id=551,
        vision_start_token_id=552,
        vision_end_token_id=553,
        tie_word_embeddings=False,
        attn_implementation=attention,
    )
    return as_policy(Qwen3VLForConditionalGeneration(config), dtype, checkpointing)


def as_policy(model, dtype, checkpointing):
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Policy(model.to(dtype).train(), family_of(model.config))


def prompts_of(policy, num_problems, length, *, with_images):
    images = [IMAGE] * IMAGE_TOKENS if with_images else []
    token_ids = [5] * (length - len(images)) + images
    grids = [GRID] if with_images else []
    positions = policy.family.positions(token_ids, grids)
    return [
        Prompt(
            id=str(number),
            token_ids=token_ids,
            position_ids=positions,
            images=tuple(
                ProcessedImage(key=str(number), pixel_values=torch.rand(256, 384), grid=grid)
                for grid in grids
            ),
        )
        for number in range(num_problems)
    ]


def setup_of(policy, precision, work, **changes):
    architecture = architecture_of(policy.model.config)
    common = {
        "architecture": architecture,
        "num_trainable": architecture.num_params,
        "teacher_architecture": architecture,
        "num_adapter_sets": 0,
        "anchor_copies": True,
        "num_teacher_params": 0,
        "teacher_follows": False,
        "external_teacher_dtype": None,
        "asks_teacher": work.teacher_prompt_tokens > 0,
        "teacher_sync_steps": 0,
        "divergence": False,
        "contrast": False,
        "has_anchor": False,
        "engine": PolicyEngine(copies=False, max_batch_prompts=64),
        "gradient_checkpointing": policy.model.is_gradient_checkpointing,
        "freeze_vision": False,
        "trainer_precision": precision,
        "dtype": "float32",
        "parallel": Parallel(),
        "workload": work,
        "assumptions": Assumptions(gpu="h200", gpus_per_node=1),
        "gpu": gpu_named("h200"),
        "device": "cpu",
    }
    return Setup(**(common | changes))


def workload(num_problems, group_size, prompt, completion, *, teacher=0, with_images=False):
    return Workload(
        num_problems=num_problems,
        group_size=group_size,
        num_micro_batches=1,
        prompt_tokens=prompt,
        teacher_prompt_tokens=teacher,
        completion_tokens=completion,
        longest_prompt_tokens=prompt,
        longest_teacher_prompt_tokens=teacher,
        longest_completion_tokens=completion,
        images_per_problem=float(with_images),
        image_tokens=IMAGE_TOKENS,
        max_row_tokens=None,
        share_prefix=True,
        scored_fraction=1.0,
    )


def numerics(name):
    precision, dtype = PRECISIONS[name]
    context = contextlib.nullcontext
    if name == "autocast":
        context = lambda: torch.autocast("cpu", torch.bfloat16)
    return precision, dtype, context


def micro_batch(policy, work, context=contextlib.nullcontext, *, with_images=False):
    """Return a function that computes the loss of a micro-batch as RLSDModule.training_step does."""
    prompts = prompts_of(policy, work.num_problems, work.prompt_tokens, with_images=with_images)
    longer = (
        prompts_of(
            policy, work.num_problems, work.teacher_prompt_tokens or 1, with_images=with_images
        )
        if work.teacher_prompt_tokens
        else []
    )
    completions = [[7] * work.completion_tokens] * work.group_size
    slots = {str(number): number for number in range(work.num_problems)}
    rows = pack_rows([(prompt, completions) for prompt in prompts], slots)
    teacher_rows = (
        pack_rows([(prompt, completions) for prompt in longer], slots) if longer else None
    )
    images = image_batch([image for prompt in prompts for image in prompt.images])
    token_ids = torch.full((work.num_problems * work.group_size, work.completion_tokens), 7)
    mask = torch.ones_like(token_ids).bool()

    def loss():
        with context():
            features = policy.encode_images(images)
            states = policy.predictors(rows, mask, features)
            logprobs, _ = policy.logprobs_and_entropy(states, token_ids, mask, 1.0)
            if teacher_rows is not None:
                with torch.no_grad():
                    found = policy.logprobs(teacher_rows, token_ids, mask, features, 1.0)
                logprobs = logprobs + found
            return logprobs.sum()

    return loss
