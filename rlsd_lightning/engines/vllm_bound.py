"""What both vLLM engines, the one in this process and the one behind servers, know of the policy they sample for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any

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
