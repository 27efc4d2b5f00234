"""From a prompt to what vLLM is asked, and from its answer to completions: the same for the engine in this process and servers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from rlsd_lightning.data.images import load_image
from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.types import Completion, Prompt, Sampling

_BAN = -100.0
"""Added to the logit of a token that is never drawn; vLLM takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What of the model's vocabulary a request has to know."""

    image_token_id: int | None
    """See Family."""
    banned_ids: tuple[int, ...]
    """Never drawn: placeholders of images and videos."""
    stop_ids: frozenset[int]
    """They end a completion."""


def sampling_settings(
    vocabulary: Vocabulary, prompt: Prompt, sampling: Sampling, group_size: int
) -> dict[str, Any]:
    """Return the arguments of vLLM's SamplingParams for the group of one prompt; all of them can be sent as JSON.

    Greedy completions of a prompt are all alike, and vLLM makes one only: see `group_of`.

    Args:
        vocabulary: of the model.
        prompt: whose id fixes the draw, together with the seed.
        sampling: as in training or of an evaluation.
        group_size: G.
    """
    return {
        "n": 1 if sampling.temperature == 0 else group_size,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "presence_penalty": sampling.presence_penalty,
        "max_tokens": sampling.max_completion_tokens,
        "seed": request_seed(sampling.seed, prompt.id),
        "logprobs": 0,  # of the sampled token alone
        "stop_token_ids": sorted(vocabulary.stop_ids),
        "logit_bias": dict.fromkeys(vocabulary.banned_ids, _BAN) or None,
        "detokenize": False,
    }


def request_seed(seed: int, prompt_id: str) -> int:
    """Return the seed of a group. vLLM draws completion i of a request with this plus i.

    Example:
        >>> request_seed(7, "a") == request_seed(7, "a"), request_seed(7, "a") == request_seed(7, "b")
        (True, False)
    """
    digest = hashlib.blake2b(f"{seed}/{prompt_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2  # it must fit into 64 bits with a sign, i added


def collapsed_ids(vocabulary: Vocabulary, prompt: Prompt) -> list[int]:
    """Return a prompt's ids with one token per image, which vLLM repeats by itself; repeated ones it would repeat again.

    Raises:
        EngineError: there are not as many runs of image tokens as images.
    """
    collapsed: list[int] = []
    num_runs = 0
    for place, token in enumerate(prompt.token_ids):
        if token == vocabulary.image_token_id:
            if place and prompt.token_ids[place - 1] == token:
                continue
            num_runs += 1
        collapsed.append(token)
    if num_runs != len(prompt.images):
        raise EngineError(
            f"engine: the prompt of problem {prompt.id!r} has {num_runs} places for images, but {len(prompt.images)} "
            "images. Needed: as many. Correct the prompt's template, or the row.",
            prompt.id,
        )
    return collapsed


def pictures(prompt: Prompt) -> list[Image.Image]:
    """Return the images of a prompt as its encoder saw them: decoded, upright, RGB.

    Raises:
        EngineError: one cannot be read any more.
    """
    try:
        return [load_image(image.source) for image in prompt.images]
    except ValueError as error:
        raise EngineError(f"engine: problem {prompt.id!r}: {error}", prompt.id) from error


def check_lengths(
    prompts: Sequence[Prompt],
    sampling: Sampling,
    max_model_len: int,
    setting: str = "engine.max_model_len",
) -> None:
    """Refuse prompts that leave no room for a whole completion: vLLM would refuse all, or silently cut it short.

    Args:
        prompts: of one call.
        sampling: how long completions may be.
        max_model_len: of the engine, in tokens.
        setting: where that is set, for the message.

    Raises:
        EngineError: names the first such problem.
    """
    for prompt in prompts:
        num_tokens = len(prompt.token_ids)
        if not num_tokens:
            raise EngineError(
                f"engine: the prompt of problem {prompt.id!r} is empty. Correct it.", prompt.id
            )
        if num_tokens + sampling.max_completion_tokens > max_model_len:
            raise EngineError(
                f"engine: the prompt of problem {prompt.id!r} has {num_tokens} tokens, and a completion may have "
                f"{sampling.max_completion_tokens}; {setting} is {max_model_len}. Raise it, lower "
                "data.max_prompt_tokens, or shorten completions.",
                prompt.id,
            )


def check_prompt(prompt: Prompt, expanded: Sequence[int] | None) -> None:
    """Make sure that what vLLM has read is what is trained on.

    Args:
        prompt: as it was encoded.
        expanded: what vLLM made of it.

    Raises:
        EngineError: it differs.
    """
    if expanded is not None and list(expanded) == prompt.token_ids:
        return
    seen = "no ids" if expanded is None else f"{len(expanded)} tokens"
    raise EngineError(
        f"engine: vLLM read {seen} for the prompt of problem {prompt.id!r}, which has {len(prompt.token_ids)} "
        "in training: images were cut up otherwise. Both must use the processor in model.path.",
        prompt.id,
    )


def not_finite(prompt: Prompt, version: int | str | None) -> EngineError:
    """Return the error of a completion whose log-probs are no numbers.

    Args:
        prompt: whose completion it is.
        version: of the weights, as the engine calls them.
    """
    return EngineError(
        f"engine: log-probs of a completion of problem {prompt.id!r} are not finite, at weight version {version}. The "
        "weights or the activations hold NaN: lower optim.lr, or look at the last steps.",
        prompt.id,
    )


def group_of(completions: Sequence[Completion], group_size: int) -> list[Completion]:
    """Return a prompt's group: what was sampled, or G times the one greedy completion."""
    return list(completions) if len(completions) == group_size else [*completions] * group_size
