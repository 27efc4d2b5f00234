"""What both vLLM engines, the one in this process and the one behind servers, know of the policy and ask of its weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.transformers_engine import stop_token_ids
from rlsd_lightning.engines.vllm_arguments import logprobs_mode
from rlsd_lightning.engines.vllm_requests import Vocabulary
from rlsd_lightning.models import Policy
from rlsd_lightning.types import Completion, Prompt, Sampling
from rlsd_lightning.weights import tied_names


class BoundEngine(ABC):
    """An engine with weights of its own, bound to a policy.

    Args:
        temperature: of the training's rollouts.
    """

    shares_policy_weights = False

    def __init__(self, temperature: float) -> None:
        self._logprobs_mode = logprobs_mode(temperature)
        self.logprobs_leave_out: tuple[int, ...] = ()

    def bind(self, policy: Policy, tokenizer: Any) -> None:
        """Take note of the policy whose weights are going to come, and of its tokens."""
        self._tokenizer = tokenizer
        self._vocabulary = Vocabulary(
            image_token_id=policy.family.image_token_id,
            banned_ids=policy.family.placeholder_token_ids,
            stop_ids=stop_token_ids(policy, tokenizer),
        )
        self._tied = tied_names(policy)
        if self._logprobs_mode == "processed_logprobs":
            self.logprobs_leave_out = policy.family.placeholder_token_ids

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> list[list[Completion]]:
        """See RolloutEngine."""
        groups = dict(self.generate_each(prompts, sampling, group_size))
        return [groups[place] for place in range(len(prompts))]

    @abstractmethod
    def generate_each(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See StreamsCompletions."""

    def _all_names(self, names: Collection[str]) -> set[str]:
        """Return the names of weights, each tied one under all of its names."""
        return {*names, *(alias for name in names for alias in self._tied.get(name, ()))}


def check_weight_names(engine: str, wanted: Collection[str], given: Collection[str]) -> None:
    """Refuse weights that are not exactly those of the engine's model.

    Args:
        engine: its name, for the message.
        wanted: Hugging Face names of its weights; experts are left out of both.
        given: names of the weights that are going to be sent.

    Raises:
        EngineError: lists the first names on either side.

    Example:
        >>> check_weight_names("engine", {"a", "b"}, {"a", "b", "layers.0.mlp.experts.down_proj"})
    """
    missing = sorted(set(wanted) - set(given))
    unknown = sorted(name for name in set(given) - set(wanted) if ".experts." not in name)
    if not missing and not unknown:
        return
    lists = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, what in (
            (missing, "weights that vLLM's model has are not sent"),
            (unknown, "that are sent have no place in it"),
        )
        if names
    ]
    raise EngineError(
        f"{engine}: {' and '.join(lists)}. Needed: the same model on both sides; compare engine.path with model.path."
    )


@torch.no_grad()
def finite(named_tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield weights on, each of them looked at.

    Args:
        named_tensors: whole weights by name.

    Raises:
        EngineError: one holds a value that is not finite; names it.
    """
    for name, tensor in named_tensors:
        extremes = torch.aminmax(tensor)  # a sum in float32 would make a copy of other types first
        if not all(math.isfinite(value.item()) for value in extremes):
            raise EngineError(
                f"engine: the policy's weight {name} holds values that are not finite, so nothing more is sent. Go on "
                "from an earlier checkpoint with a lower optim.lr or trainer.gradient_clip_val."
            )
        yield name, tensor
