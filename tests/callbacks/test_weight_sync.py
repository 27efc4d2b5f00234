"""An engine with a copy of its own gets the weights before the first rollout and after every step."""

import torch

from rlsd_lightning.callbacks.weight_sync import WeightSync
from tests.helpers.toy_training import ToyLoader, ToyModule, fit


class CopyingEngine:
    """Keeps what it was given last."""

    shares_policy_weights = False

    def __init__(self):
        self.weights = None
        self.num_loads = 0

    def load_weights(self, named_tensors, version):
        self.weights = {name: tensor.tolist() for name, tensor in named_tensors}
        self.num_loads += 1


class SharingEngine(CopyingEngine):
    shares_policy_weights = True


def train(engine, folder, num_steps, resume_from=None, save_to=None):
    """Return what the engine had when each step's rollouts were made."""
    seen = {}
    loader = ToyLoader(num_steps, 2, lambda step: seen.update({step: engine.weights}))
    module = ToyModule(engine=engine)
    module.policy.model = module  # named_weights asks a policy for its model's parameters
    trainer = fit(module, loader, [WeightSync(verify=False)], folder, resume_from)
    if save_to is not None:
        trainer.save_checkpoint(save_to)
    return seen


def after(step):
    return {"weights": [float(step), 2.0 * step]}


def test_every_rollout_is_made_with_the_weights_after_the_last_step(tmp_path):
    engine = CopyingEngine()
    assert train(engine, tmp_path, 4) == {step: after(step - 1) for step in range(1, 5)}
    assert engine.num_loads == 1 + 4  # at the start, and once per step, not per micro-batch
    assert engine.weights == after(4)


def test_a_resumed_run_starts_with_the_weights_of_the_checkpoint(tmp_path):
    train(CopyingEngine(), tmp_path, 2, save_to=tmp_path / "last.ckpt")
    seen = train(CopyingEngine(), tmp_path, 4, resume_from=tmp_path / "last.ckpt")
    assert seen == {3: after(2), 4: after(3)}


def test_an_engine_that_shares_the_weights_is_given_none(tmp_path):
    engine = SharingEngine()
    train(engine, tmp_path, 2)
    assert engine.num_loads == 0


def test_the_weights_handed_over_have_no_gradient(tmp_path):
    given = []

    class Engine(CopyingEngine):
        def load_weights(self, named_tensors, version):
            given.extend(tensor for _, tensor in named_tensors)

    train(Engine(), tmp_path, 1)
    assert [type(tensor) for tensor in given] == [torch.Tensor] * 2
    assert not any(tensor.requires_grad for tensor in given)
