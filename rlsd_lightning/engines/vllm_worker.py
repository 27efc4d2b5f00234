"""What runs inside vLLM's workers: how weights come in, and what the trainer may ask a worker.

Only vLLM imports this module, so it may import vLLM. The steps of an update are those of vLLM's weight-transfer API
(docs/training/weight_transfer.md of vLLM 0.32): start, update in one or more parts, finish.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)
from vllm.model_executor.model_loader.reload import layerwise as reloading
from vllm.platforms import current_platform

from rlsd_lightning.engines.vllm_packing import PackingRoom
from rlsd_lightning.layer_trace import LayerTrace

_EXPERTS = re.compile(r"\.experts\.")
"""vLLM keeps the experts of a layer in one tensor under names of its own."""


class LayerwiseReceiver(WeightTransferEngine):
    """Loads weights in place, layer by layer: a layer is replaced once all of its weights are there.

    A failed update puts back the old weights of every layer that was not complete; vLLM by itself would leave
    tensors without memory.
    """

    _room: PackingRoom | None = None

    def start_weight_update(self) -> None:
        """Be ready for new weights."""
        initialize_layerwise_reload(self.model)

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take weights in, by their Hugging Face names."""
        try:
            with self._packing():
                self.model.load_weights(weights)
        except BaseException:
            self.put_back()
            raise

    def finish_weight_update(self) -> None:
        """Put into place what is complete."""
        with self._packing():
            finalize_layerwise_reload(self.model, self.model_config)

    def _packing(self) -> AbstractContextManager[None]:
        if not current_platform.is_cpu():
            return nullcontext()
        self._room = self._room or PackingRoom()
        return self._room.in_use()

    def put_back(self) -> None:
        """Give every layer that is not complete its old weights, and end the update."""
        for layer in self.model.modules():
            info = reloading.get_layerwise_info(layer)
            if info.can_load():
                if info.kernel_tensors is not None:
                    reloading._place_kernel_tensors(layer, info)
                info.reset()
        reloading.LOADING_LAYERS.clear()

    def shutdown(self) -> None:
        """Nothing is held."""


@dataclass
class InProcessInit(WeightTransferInitInfo):
    """Nothing is to be set up."""


@dataclass
class InProcessUpdate(WeightTransferUpdateInfo):
    """Weights that are passed by reference."""

    weights: Any
    """Iterable of (name, tensor)."""


class InProcessReceiver(LayerwiseReceiver):
    """Takes tensors from the process that it is in."""

    init_info_cls = InProcessInit
    update_info_cls = InProcessUpdate

    def init_transfer_engine(self, init_info: InProcessInit) -> None:
        """Nothing is to be set up."""

    def receive_weights(self, update_info: InProcessUpdate) -> None:
        """Take them in."""
        self.load(update_info.weights)


class RolloutWorker:
    """What the trainer may ask of a vLLM worker by collective_rpc: mixed into vLLM's own class (worker_extension_cls)."""

    def rlsd_settings(self: Any) -> dict[str, Any]:
        """Return what a trainer has to know of a server that it has not started."""
        config = self.vllm_config
        transfer = config.weight_transfer_config
        return {
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "logprobs_mode": config.model_config.logprobs_mode,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "backend": None if transfer is None else transfer.backend,
            "num_workers": config.parallel_config.world_size_across_dp,
        }

    def rlsd_weight_names(self: Any) -> list[str]:
        """Return the Hugging Face names of all weights that the model is made of; experts are left out."""
        return sorted(hugging_face_names(self.get_model()))

    def rlsd_incomplete_layers(self: Any) -> list[str]:
        """Return the layers of which this update has brought only a part; if there are any, end it and keep the old ones."""
        model = self.get_model()
        incomplete = sorted(incomplete_layers(model))
        if incomplete:
            self.weight_transfer_engine.put_back()
            self._weight_update_active = False
        return incomplete

    def rlsd_abandon_update(self: Any) -> None:
        """End an update that has failed, whatever state it is in."""
        self.weight_transfer_engine.put_back()
        self._weight_update_active = False

    def rlsd_clear_kv_cache(self: Any) -> None:
        """Overwrite all keys and values: those of NaN weights stay in freed blocks and spoil later requests."""
        for cache in self.model_runner.kv_caches:
            cache.zero_()

    def rlsd_start_trace(self: Any) -> None:
        """Look at what comes out of the layers from now on."""
        model = self.get_model()
        self.rlsd_trace = LayerTrace(model, to_hugging_face(model))

    def rlsd_end_trace(self: Any) -> dict[str, tuple[float, ...]]:
        """Return what was seen."""
        return self.rlsd_trace.end()


def count_in_plain_torch() -> None:
    """Replace the one function of vLLM's sampler that is compiled: on CPU that takes a C++ compiler 10 to 20 s."""
    from vllm.v1.sample import sampler

    sampler.batched_count_greater_than = lambda x, values: (x >= values).sum(-1)


if current_platform.is_cpu():
    count_in_plain_torch()


def hugging_face_names(model: nn.Module) -> Iterator[str]:
    """Yield the name of every weight as a Hugging Face checkpoint has it: prefixes exchanged, fused layers taken apart."""
    rename = to_hugging_face(model)
    packed: dict[str, list[str]] = getattr(model, "packed_modules_mapping", {})
    for name, _ in model.named_parameters(remove_duplicate=False):
        if _EXPERTS.search(name):
            continue
        *place, module, leaf = name.split(".")
        for part in packed.get(module, [module]):
            yield rename(".".join([*place, part, leaf]))


def to_hugging_face(model: nn.Module) -> Callable[[str], str]:
    """Return the function from vLLM's names of a model's modules and weights to Hugging Face's."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    prefixes = {} if mapper is None else mapper.orig_to_new_prefix
    pairs = sorted(((new, old) for old, new in prefixes.items() if new), reverse=True)

    def rename(name: str) -> str:
        for new, old in pairs:
            if name.startswith(new):
                return old + name.removeprefix(new)
        return name

    return rename


def incomplete_layers(model: nn.Module) -> Iterator[str]:
    """Yield the Hugging Face names of layers that an update has begun, and not filled."""
    rename = to_hugging_face(model)
    for name, layer in model.named_modules():
        info = reloading.get_layerwise_info(layer)
        if not info.can_load() or reloading.is_deferred_attention_layer(layer):
            continue  # complete, or without weights in a checkpoint
        if info.load_numel < _num_expected(layer):
            yield rename(name)


def _num_expected(layer: nn.Module) -> int:
    """Count the elements that a checkpoint has for a layer's own weights: no buffers, and vLLM pads vocabularies."""
    total = sum(weight.numel() for weight in layer.parameters(recurse=False))
    if not isinstance(layer, VocabParallelEmbedding):
        return total
    indices = layer.shard_indices
    return total // layer.num_embeddings_per_partition * indices.num_org_elements
