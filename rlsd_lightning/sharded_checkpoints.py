"""Saving and resuming for strategies that cut the training state into parts: what they share, as a mixin.

A save goes to a temporary name and takes its final one when it is complete on disk; if any rank fails, every rank
raises, and the checkpoint that was there before still is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlsd_lightning.checkpoints import fill, open_checkpoint, saved_buffers, tied_names
from rlsd_lightning.shards import (
    PARTIAL_SUFFIX,
    TRAINER,
    Part,
    remove,
    sync,
    take_name,
    write_index,
    write_parts,
)


class ShardedCheckpoints:
    """Writes and reads checkpoint folders (shards.py). Mixed into a Lightning strategy (an ABC), before its other bases."""

    @abstractmethod
    def parts(self: Any) -> list[Part]:
        """Return this rank's parts of weights and optimizer states."""

    @abstractmethod
    def prepare_optimizer(self: Any, states: set[str], scalars: Mapping[str, Tensor]) -> None:
        """Make optimizer states of these names, so that `parts` has them, and set those that are one number."""

    @abstractmethod
    def optimizer_scalars(self: Any) -> dict[str, Tensor]:
        """Return the optimizer states that are one number for all weights, such as AdamW's step."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return nothing: weights go into the parts."""
        return {}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return nothing: optimizer states go into the parts."""
        return {}

    @property
    def lightning_restore_optimizer(self) -> bool:
        """No: load_checkpoint does it."""
        return False

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Do nothing: load_checkpoint has done it."""

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Do nothing: load_checkpoint has done it."""

    def save_checkpoint(
        self: Any,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: Any | None = None,
    ) -> None:
        """Write a folder. Collective.

        Args:
            checkpoint: what the trainer wants to keep beside weights and optimizer states.
            filepath: the final name.
            storage_options: always None here.

        Raises:
            OSError: some rank could not write; the checkpoint of that name, if there was one, is untouched.
        """
        if storage_options is not None:
            raise TypeError("storage_options: checkpoints are folders on mounted file systems.")
        path = Path(self.broadcast(filepath))
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        if self.is_global_zero:
            remove(partial)
            partial.mkdir(parents=True)
        self.barrier()
        table, fault = {}, None
        try:
            table = write_parts(partial, self.global_rank, self.parts())
            if self.is_global_zero:
                rest = {k: v for k, v in checkpoint.items() if k not in _IN_PARTS}
                torch.save(rest | self._own_state(), partial / TRAINER)
                sync(partial / TRAINER)
        except OSError as error:
            fault = f"rank {self.global_rank}: {error}"
        gathered = _gather((table, fault), self.world_size)
        faults = [fault for _, fault in gathered if fault]
        if self.is_global_zero and not faults:
            write_index(partial, [table for table, _ in gathered])
            take_name(partial, path)
        elif self.is_global_zero:
            remove(partial)
        self.barrier()
        if faults:
            raise OSError(
                f"checkpoint: {path} could not be written ({'; '.join(faults)}). The last checkpoint before it is whole. "
                "Free disk space, or give another exp_manager.exp_dir, and resume."
            )

    def load_checkpoint(
        self: Any, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Fill this rank's parts from a folder, or from the single file that other strategies write. Collective.

        Args:
            checkpoint_path: folder or file.
            weights_only: not used: the state of loops and loaders are Python objects of this project.

        Raises:
            FileNotFoundError: a part is missing.
            ValueError: it is the checkpoint of another model.
        """
        reader = open_checkpoint(Path(self.broadcast(checkpoint_path)))
        state = reader.trainer_state()
        if self.optimizers:
            names = {key.split("/", 2)[1] for key in reader.keys("optimizer/")}
            self.prepare_optimizer(names, state["optimizer_scalars"])
            for group, saved in zip(
                self.optimizers[0].param_groups, state["optimizer_groups"], strict=True
            ):
                group.update(saved)
        fill(reader, self.parts())
        for name, buffer in saved_buffers(self.lightning_module).items():
            buffer.copy_(state["buffers"][name])
        self.barrier()
        return state

    def _own_state(self: Any) -> dict[str, Any]:
        optimizer = self.optimizers[0]
        return {
            "tied": tied_names(self.lightning_module),
            "buffers": {
                n: b.detach().cpu() for n, b in saved_buffers(self.lightning_module).items()
            },
            "optimizer_groups": [
                {key: value for key, value in group.items() if key != "params"}
                for group in optimizer.param_groups
            ],
            "optimizer_scalars": self.optimizer_scalars(),
        }


_IN_PARTS = ("state_dict", "optimizer_states")


def _gather(value: Any, world_size: int) -> list[Any]:
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
