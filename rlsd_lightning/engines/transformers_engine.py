"""Rollouts by the policy's own transformers model: no second copy, no sync, runs wherever the policy runs.

A prompt is computed once per group and its keys and values are kept once: the G completions of a group are decoded
as branches of one row. For models of billions of weights a serving engine is faster; this one is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.engines.branch_cache import BranchCache, branch_visibility
from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.sampling import draw, uniforms
from rlsd_lightning.models import Policy, evaluating
from rlsd_lightning.packing import additive, image_batch, pack_rows, visibility
from rlsd_lightning.types import Completion, PackedRows, Prompt, Sampling
from rlsd_lightning.weights import load_named_weights


class TransformersEngine:
    """Batched sampling with a cache that branches.

    Args:
        shares_policy_weights: sample from the policy's own weights, which are always current. False keeps a copy that
            `load_weights` updates, as an engine in another process would.
        max_batch_prompts: prompts decoded at a time; bounds the cache's memory.
    """

    def __init__(self, shares_policy_weights: bool = True, max_batch_prompts: int = 64) -> None:
        if max_batch_prompts < 1:
            raise ValueError(
                f"engine.max_batch_prompts is {max_batch_prompts}; set it to 1 or more."
            )
        self.shares_policy_weights = shares_policy_weights
        self.max_batch_prompts = max_batch_prompts
        self._policy: Policy | None = None
        self._tokenizer: Any = None
        self._gathered = ExitStack()
        self._awake = False
        self._versions: tuple[int, ...] = ()

    def bind(self, policy: Policy, tokenizer: Any) -> None:
        """Take the policy to sample from, and the tokenizer that knows its stop tokens."""
        self._policy = policy if self.shares_policy_weights else policy.plain_copy()
        self._tokenizer = tokenizer
        self._stop_ids = stop_token_ids(policy, tokenizer)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> list[list[Completion]]:
        """See RolloutEngine.generate."""
        groups = dict(self.generate_each(prompts, sampling, group_size))
        return [groups[place] for place in range(len(prompts))]

    @torch.no_grad()
    def generate_each(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See StreamsCompletions.generate_each; a group comes as soon as its last completion is done.

        Raises:
            EngineError: log-probs are not finite, as those of weights that hold NaN.
        """
        with evaluating(self.policy):
            for start in range(0, len(prompts), self.max_batch_prompts):
                batch = prompts[start : start + self.max_batch_prompts]
                done = _decode(self.policy, batch, sampling, group_size, self._stop_ids)
                for place, tokens, logprobs in done:
                    _check_finite(batch[place], logprobs)
                    yield start + place, self._completions(tokens, logprobs)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copy the policy's weights; with shared weights there is nothing to copy and it is an error to try."""
        if self.shares_policy_weights:
            raise ValueError(
                "engine.shares_policy_weights is true: the engine reads the policy's own weights."
            )
        load_named_weights(self.policy, named_tensors)
        self._versions = (version,)

    def wake(self) -> None:
        """Hold the weights whole, where the strategy has cut them up: ranks decode different numbers of tokens."""
        if not self._awake:
            self._gathered.enter_context(self.policy.placement.whole(self.policy))
            self._awake = True

    def sleep(self) -> None:
        """Let go of weights that were gathered; caches live only inside `generate`."""
        self._gathered.close()
        self._awake = False

    @property
    def policy(self) -> Policy:
        """The model that samples."""
        assert self._policy is not None, "bind the engine to a policy first"
        return self._policy

    def _completions(self, tokens: Tensor, logprobs: Tensor) -> list[Completion]:
        branches = zip(tokens.tolist(), logprobs.tolist(), strict=True)
        return [self._completion(*branch) for branch in branches]

    def _completion(self, tokens: list[int], logprobs: list[float]) -> Completion:
        end = next((i for i, token in enumerate(tokens) if token in self._stop_ids), None)
        length = len(tokens) if end is None else end + 1
        kept = tokens[:length]
        return Completion(
            token_ids=kept,
            logprobs=logprobs[:length],
            text=self._tokenizer.decode(kept, skip_special_tokens=True),
            finish_reason="length" if end is None else "stop",
            weight_versions=self._versions,
        )


def _check_finite(prompt: Prompt, logprobs: Tensor) -> None:
    if not bool(logprobs.isfinite().all()):
        raise EngineError(
            f"engine: log-probs of completions of problem {prompt.id!r} are not finite. The weights or the activations "
            "hold NaN: lower optim.lr, or go on from an earlier checkpoint.",
            prompt.id,
        )


def stop_token_ids(policy: Policy, tokenizer: Any) -> frozenset[int]:
    """Collect the tokens that end a completion: the generation config's and the tokenizer's.

    Raises:
        ValueError: neither names one, so that every completion would run to the limit.
    """
    configured = policy.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    stop_ids = frozenset(i for i in [*listed, tokenizer.eos_token_id] if i is not None)
    if not stop_ids:
        raise ValueError(
            "model.path names no end-of-text token, so no completion would ever stop. Set eos_token_id in its "
            "generation_config.json."
        )
    return stop_ids


def _decode(
    policy: Policy,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    group_size: int,
    stop_ids: frozenset[int],
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each prompt's place with its token ids and log-probabilities, both [G, T], as soon as all G have stopped.

    What follows a stop token is to be cut off.
    """
    device, limit = policy.device, sampling.max_completion_tokens
    noise = uniforms(sampling.seed, [p.id for p in prompts], group_size, limit).to(device)
    stops = torch.tensor(sorted(stop_ids), device=device)
    placeholders = policy.family.placeholder_token_ids
    banned = torch.tensor(placeholders, device=device) if placeholders else None
    mask_as_attention_wants = _mask_converter(policy)

    cache, rows, hidden = _prefill(policy, prompts, mask_as_attention_wants)
    tokens = torch.zeros(len(prompts), group_size, limit, dtype=torch.int64, device=device)
    logprobs = torch.zeros(len(prompts), group_size, limit, device=device)
    position = torch.tensor([p.next_position for p in prompts], device=device)
    prompt_mask = rows.branch_ids == 0
    alive = torch.arange(len(prompts), device=device)
    finished = torch.zeros(len(prompts), group_size, dtype=torch.bool, device=device)
    unyielded = set(range(len(prompts)))
    written: Tensor | None = (
        None  # which tokens a completion holds, where that matters: bool [P * G, V]
    )
    hidden = hidden.unsqueeze(1).expand(-1, group_size, -1)  # the first token of every branch

    for step in range(limit):
        logits = policy.logits(hidden).flatten(0, 1)
        if sampling.presence_penalty and written is None:
            written = torch.zeros_like(logits, dtype=torch.bool)
        flat_tokens, flat_logprobs = draw(
            logits, noise[alive, :, step].flatten(), sampling, banned, written
        )
        if written is not None:
            written.scatter_(1, flat_tokens.unsqueeze(1), True)
        newest = flat_tokens.view(-1, group_size)
        tokens[alive, :, step] = newest
        logprobs[alive, :, step] = flat_logprobs.view(-1, group_size)
        finished = finished | torch.isin(newest, stops)
        going_on = ~finished.all(dim=1)
        done = unyielded.intersection(alive[~going_on].tolist()) if step + 1 < limit else unyielded
        for place in sorted(done):
            yield place, tokens[place, :, : step + 1], logprobs[place, :, : step + 1]
        unyielded = unyielded - done
        if not unyielded:
            break
        if len(unyielded) <= 0.75 * len(alive):  # dropping rows copies the cache: only when it pays
            kept = going_on.nonzero().squeeze(1)
            cache.keep_rows(kept)
            alive, newest, finished = alive[kept], newest[kept], finished[kept]
            position, prompt_mask = position[kept], prompt_mask[kept]
            if written is not None:
                written = written.unflatten(0, (-1, group_size))[kept].flatten(0, 1)
        places = (position + step)[None, :, None].expand(rows.position_ids.shape[0], -1, group_size)
        seen = branch_visibility(prompt_mask, group_size, step + 1)
        hidden = policy.hidden_states(newest, places, mask_as_attention_wants(seen), [], cache)


def _prefill(
    policy: Policy, prompts: Sequence[Prompt], convert: Any
) -> tuple[BranchCache, PackedRows, Tensor]:
    """Compute the prompts once; return the cache, the rows, and each prompt's last hidden state [P, H]."""
    images = {image.key: image for prompt in prompts for image in prompt.images}
    rows = pack_rows([(prompt, []) for prompt in prompts], {key: i for i, key in enumerate(images)})
    rows = rows.to(policy.device)
    batch = image_batch(list(images.values()))
    features = policy.encode_images(batch.to(policy.device) if batch else None)
    cache = BranchCache()
    hidden = policy.hidden_states(
        rows.input_ids,
        rows.position_ids,
        convert(visibility(rows.branch_ids)),
        [features[i] for i in rows.image_index],
        cache,
    )
    last = torch.tensor([len(prompt.token_ids) - 1 for prompt in prompts], device=policy.device)
    return cache, rows, hidden[torch.arange(len(prompts), device=policy.device), last]


def _mask_converter(policy: Policy) -> Any:
    if policy.model.config._attn_implementation == "eager":
        return lambda seen: additive(seen, policy.dtype)
    return lambda seen: seen
