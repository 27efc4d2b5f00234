"""A save that fails costs nothing; what a run is resumed from is what it had."""

import errno

import pytest
import torch

from rlsd_lightning.checkpoints import open_checkpoint
from rlsd_lightning.sharded_checkpoints import ShardedCheckpoints
from rlsd_lightning.shards import part_of


class OneRank(ShardedCheckpoints):
    """A strategy of one rank that holds a linear layer and an SGD with momentum."""

    global_rank, world_size, is_global_zero = 0, 1, True

    def __init__(self):
        self.lightning_module = torch.nn.Linear(3, 2)
        self.optimizers = [torch.optim.SGD(self.lightning_module.parameters(), lr=0.5)]
        self.disk_is_full = False

    def parts(self):
        return [
            self._checked(part_of(f"weights/{n}", w.shape, 0, w))
            for n, w in self.lightning_module.named_parameters()
        ]

    def _checked(self, part):
        if self.disk_is_full and part.key == "weights/bias":
            raise OSError(errno.ENOSPC, "No space left on device")
        return part

    def prepare_optimizer(self, states, scalars):
        self.prepared = (states, dict(scalars))

    def optimizer_scalars(self):
        return {"step": torch.tensor(3.0)}

    def broadcast(self, value):
        return value

    def barrier(self):
        pass


def weights(strategy):
    return {n: w.detach().clone() for n, w in strategy.lightning_module.named_parameters()}


def test_a_full_disk_costs_the_new_checkpoint_only(tmp_path):
    strategy, path = OneRank(), tmp_path / "last.ckpt"
    strategy.save_checkpoint({"global_step": 1}, path)
    before = weights(strategy)
    with torch.no_grad():
        strategy.lightning_module.weight.add_(1)
    strategy.disk_is_full = True
    with pytest.raises(OSError, match=r"rank 0: .*No space left on device.* before it is whole"):
        strategy.save_checkpoint({"global_step": 2}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    reader = open_checkpoint(path)
    assert reader.trainer_state()["global_step"] == 1
    assert torch.equal(reader.read("weights/weight"), before["weight"].flatten())


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved, fresh = OneRank(), OneRank()
    saved.optimizers[0].param_groups[0]["lr"] = 0.125  # as a schedule would leave it
    saved.save_checkpoint({"global_step": 5, "state_dict": {"unused": 1}}, tmp_path / "last.ckpt")
    state = fresh.load_checkpoint(tmp_path / "last.ckpt")
    assert state["global_step"] == 5
    assert "state_dict" not in state
    for name, weight in weights(saved).items():
        assert torch.equal(weights(fresh)[name], weight)
    assert fresh.optimizers[0].param_groups[0]["lr"] == 0.125
    assert fresh.prepared == (set(), {"step": torch.tensor(3.0)})


def test_options_of_other_file_systems_are_refused(tmp_path):
    with pytest.raises(TypeError, match="mounted file systems"):
        OneRank().save_checkpoint({}, tmp_path / "x", storage_options={})


def test_a_strategy_of_parts_hands_the_trainer_no_tensors():
    strategy = OneRank()
    assert strategy.lightning_module_state_dict() == strategy.optimizer_state(None) == {}
    assert strategy.lightning_restore_optimizer is False
