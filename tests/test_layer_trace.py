"""Two copies of a model are compared layer by layer, however they add residuals and cut prompts up."""

import pytest
import torch
from torch import nn

from rlsd_lightning.layer_trace import LayerTrace, describe, first_difference


class Doubling(nn.Module):
    def forward(self, x):
        return 2 * x


class Stack(nn.Module):
    """Three layers by the names that decoders have, and one that is no layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Doubling() for _ in range(3))
        self.norm = Doubling()

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def test_each_layer_is_seen_in_order_and_pieces_of_a_prompt_add_up():
    model, tokens = Stack(), torch.randn(1, 6, 4)
    whole, pieces = LayerTrace(model), LayerTrace(model, lambda name: f"model.{name}")
    model(tokens)
    seen = whole.end()
    assert list(seen) == ["layers.0", "layers.1", "layers.2"]
    assert seen["layers.0"][0] == pytest.approx(2 * float(tokens.double().abs().sum()))
    pieces._sums.clear()
    model(tokens[:, :2])
    model(tokens[:, 2:])
    assert pieces.end() == {
        f"model.{name}": pytest.approx(sums, rel=1e-12) for name, sums in seen.items()
    }
    model(tokens)
    assert pieces._hooks
    assert whole.end() == seen  # nobody looks any more


def test_the_residual_may_come_beside_the_output():
    output, residual = torch.randn(5, 4), torch.randn(5, 4)
    assert torch.allclose(describe((output, residual)), describe(output + residual), rtol=1e-6)
    assert torch.equal(describe((output, None)), describe(output))
    assert torch.equal(describe((output, torch.randn(2))), describe(output))


def test_features_that_changed_places_are_told_apart():
    output = torch.arange(8.0).view(2, 4)
    swapped = output[:, [1, 0, 2, 3]]
    assert describe(output)[0] == describe(swapped)[0]
    assert describe(output)[1] != describe(swapped)[1]


def test_what_is_no_number_differs_and_what_only_one_has_is_left_out():
    ours = {"a": (1.0, 1.0), "b": (float("nan"), 1.0)}
    assert first_difference(ours, {"a": (1.0, 1.0 + 1e-9)}, 1e-6) is None
    assert first_difference(ours, ours, 1e-6) == "b"
