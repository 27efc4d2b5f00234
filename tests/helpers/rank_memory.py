"""Counts what one rank keeps in the middle of a step, for tests that plan it."""

import gc
import json
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from torch.distributed.tensor import DTensor


class RankMemory(Callback):
    """Writes the bytes of all tensors that are alive after a step's first micro-batch, and the policy's weights."""

    def __init__(self, path: str, micro_batch: int) -> None:
        self.path, self.micro_batch = Path(path), micro_batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx != self.micro_batch or trainer.global_rank:
            return
        gc.collect()
        tensors = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
        tensors += [t.grad for t in tensors if t.is_leaf and t.grad is not None]
        tensors = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
        kept = {
            storage.data_ptr(): storage.nbytes()
            for storage in (t.untyped_storage() for t in tensors if t.device.type != "meta")
        }
        sizes = [getattr(w, "ds_numel", w.numel()) for w in pl_module.policy.parameters()]
        self.path.write_text(json.dumps({"bytes": sum(kept.values()), "weights": sum(sizes)}))
