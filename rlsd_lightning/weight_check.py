"""Whether an engine samples from the weights that are trained: its log-probs of a few tokens beside the trainer's.

What the engine samples, the trainer scores in the way of training. Wrong weights, a stale cache, another way to cut an
image up, another temperature: all of them show in this one number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from rlsd_lightning.interfaces import DescribesLogprobs, RolloutEngine, TracesLayers
from rlsd_lightning.layer_trace import LayerTrace, first_difference
from rlsd_lightning.logprobs import token_logprobs
from rlsd_lightning.models import Policy, evaluating
from rlsd_lightning.packing import image_batch, pack_rows
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.types import Completion, Problem, Prompt, Sampling

TOLERANCES = {"32": 1e-4, "16": 5e-2}
"""Largest mean difference, in nats, of numbers with so many bits. Seen with equal weights: 1e-6 and 1e-2."""
_LAYER_TOLERANCES = {"32": 1e-4, "16": 3e-2}
"""Largest difference of a layer's sums, as a share of its sum of absolute values."""
_TEXT = "A probe: which is larger, seven times eight or six times nine? Think first, then say it in one word."
"""Longer than a block of a GPU's prefix cache, 16 tokens, so that the cache is looked at, too."""
_NUM_CUT = 16
"""Tokens by which a prompt ends too early: inside the text a model is in doubt about what comes next, whereas an answer
often begins with a word of which it is so sure that no difference would show."""


def bits_of(precision: str, engine: RolloutEngine) -> str:
    """Return "16" where the trainer or the engine computes in numbers of 16 bits, otherwise "32".

    Args:
        precision: the trainer's: "32-true", "bf16-mixed", ...
        engine: which may say its own.
    """
    dtype = engine.dtype if isinstance(engine, DescribesLogprobs) else ""
    return "16" if "16" in precision or "16" in dtype else "32"


def fixed_prompts(encoder: PromptEncoder) -> list[Prompt]:
    """Return the same few prompts for every run of a model: one of text, and one with an image if the model sees.

    Args:
        encoder: of the run; its templates are not used.
    """
    plain = encoder.showing("{{ problem.prompt }}")
    pictures = [[]] if encoder.family.image_token_id is None else [[], [_picture()]]
    prompts = []
    for number, images in enumerate(pictures):
        problem = Problem(id=f"probe {number}", prompt=_TEXT, images=images)
        room = plain.max_prompt_tokens
        excess = 0 if room is None else plain.count_student_tokens(problem) - room
        if excess > 0:  # a token is one letter at least
            problem = Problem(id=problem.id, prompt=_TEXT[:-excess], images=images)
        prompts.append(_cut(plain.student(problem), _NUM_CUT))
    return prompts


def _picture() -> Image.Image:
    """Draw an image in which every patch is another one."""
    across = Image.linear_gradient("L").resize((96, 64))
    down = across.transpose(Image.Transpose.ROTATE_180)
    return Image.merge("RGB", (across, down, across.point(lambda value: value * 7 % 256)))


@torch.no_grad()
def logprob_gap(
    policy: Policy, engine: RolloutEngine, prompts: Sequence[Prompt], sampling: Sampling
) -> Tensor:
    """Let the engine sample one completion per prompt and score it with the policy.

    Where weights are sharded every rank must call this, with as many prompts.

    Args:
        policy: whose weights the engine should have; its forward passes run in the caller's precision.
        engine: awake.
        prompts: a few.
        sampling: of a few tokens.

    Returns:
        Absolute differences of the sampled tokens' log-probs, in nats. [N]
    """
    return gap_of(
        policy, engine, prompts, engine.generate(prompts, sampling, 1), sampling.temperature
    )


@torch.no_grad()
def gap_of(
    policy: Policy,
    engine: RolloutEngine,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion]],
    temperature: float,
) -> Tensor:
    """Score an engine's completions with the policy. See `logprob_gap`.

    Args:
        policy: whose weights the engine should have.
        engine: which sampled them.
        prompts: [P]
        groups: the completions of each. [P][G]
        temperature: at which they were sampled.

    Returns:
        Absolute differences of the sampled tokens' log-probs, in nats. [N]
    """
    left_out = engine.logprobs_leave_out if isinstance(engine, DescribesLogprobs) else ()
    trained = score(policy, prompts, groups, temperature, left_out)
    sampled = [value for group in groups for each in group for value in each.logprobs]
    return (trained - torch.tensor(sampled, device=trained.device)).abs()


@torch.no_grad()
def score(
    policy: Policy,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion]],
    temperature: float,
    left_out: Sequence[int] = (),
) -> Tensor:
    """Return the policy's log-probs of completions, one after the other. [N].

    Args:
        policy: scores.
        prompts: [P]
        groups: the completions of each. [P][G]
        temperature: divides the logits; 0 counts as 1.
        left_out: ids that are not part of the distribution, as some engines take it.
    """
    images = {image.key: image for prompt in prompts for image in prompt.images}
    branches = [
        (prompt, [each.token_ids for each in group])
        for prompt, group in zip(prompts, groups, strict=True)
    ]
    rows = pack_rows(branches, {key: place for place, key in enumerate(images)}).to(policy.device)
    batch = image_batch(list(images.values()))
    completions = [each.token_ids for group in groups for each in group]
    token_ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(ids) for ids in completions], batch_first=True
    ).to(policy.device)
    lengths = torch.tensor([len(ids) for ids in completions], device=policy.device)
    mask = torch.arange(token_ids.shape[1], device=policy.device) < lengths.unsqueeze(1)
    with evaluating(policy):
        features = policy.encode_images(batch.to(policy.device) if batch else None)
        states = policy.predictors(rows, mask, features)
    policy.placement.release(policy)
    with policy.placement.gathered([policy.model.get_output_embeddings().weight]) as (head,):
        head, sampled = head.to(states.dtype), token_ids[mask]
        if not left_out:
            return token_logprobs(states, head, sampled, temperature or 1.0)
        logits = torch.nn.functional.linear(states, head).float() / (temperature or 1.0)
        logits[:, list(left_out)] = -torch.inf
        return logits.log_softmax(-1).gather(1, sampled.unsqueeze(1)).squeeze(1)


@torch.no_grad()
def first_layer_that_differs(
    policy: Policy, engine: TracesLayers, prompts: Sequence[Prompt], bits: str
) -> str | None:
    """Return the first layer of which engine and policy make different things; None if all of them agree.

    Where weights are sharded every rank must call this, with as many prompts.

    Args:
        policy: as it should be.
        engine: as it is.
        prompts: computed one by one, without any cache.
        bits: see bits_of.
    """
    found = None
    for prompt in prompts:
        theirs = engine.trace(prompt)
        watched = LayerTrace(policy.model)
        one = Completion(token_ids=prompt.token_ids[-1:], logprobs=[0.0], text="", finish_reason="")
        bare = _cut(prompt, 1)
        try:
            score(policy, [bare], [[one]], 1.0)
        finally:
            ours = watched.end()
        found = found or first_difference(ours, theirs, _LAYER_TOLERANCES[bits])
    return found


def _cut(prompt: Prompt, num_tokens: int) -> Prompt:
    """Return a prompt without its last tokens, which are of text."""
    return Prompt(
        id=prompt.id,
        token_ids=prompt.token_ids[:-num_tokens],
        position_ids=prompt.position_ids[:, :-num_tokens],
        images=prompt.images,
    )
