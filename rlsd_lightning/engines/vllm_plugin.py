"""vLLM calls `register` in each of its processes before it reads a model (entry point vllm.general_plugins).

Importing the package has made torchvision usable by then, beside a torch build that it does not fit.
"""

from __future__ import annotations

from rlsd_lightning.engines.vllm_world import inspect_models_here
from rlsd_lightning.torchvision_ops import is_cpu_build

RECEIVERS = {
    "rlsd_in_process": ("rlsd_lightning.engines.vllm_worker", "InProcessReceiver"),
    "rlsd_gloo": ("rlsd_lightning.engines.vllm_gloo", "GlooReceiver"),
    "rlsd_nccl": ("rlsd_lightning.engines.vllm_gloo", "NcclReceiver"),
}
"""Ways in which weights come in, beside vLLM's own: module and class by the backend's name."""


def register() -> None:
    """Tell vLLM's factory of our receivers, and without CUDA keep it from starting Python without this package."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if is_cpu_build():
        inspect_models_here()
    for backend, (module, name) in RECEIVERS.items():
        if backend not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(backend, module, name)
