"""Distances of samples from files and objects; that the distances are right is tested beside the programs."""

import pytest
import torch
from torch import nn

import withstand
from withstand.core.errors import InputError


def linear() -> nn.Module:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, -1.0, 0.5], [-1.0, 1.0, 0.0]]))
        layer.bias.copy_(torch.tensor([-1.0, 0.0]))
    return layer


def test_a_linear_model_has_its_closed_form():
    """The margin 3 a - 2 b + c / 2 - 1 over the sum of its slopes, 5.5; sample 1 is wrong when clean."""
    x = torch.tensor([[0.8, 0.2, 0.5], [0.1, 0.9, 0.5], [0.9, 0.1, 0.6]])
    y = torch.zeros(3, dtype=torch.long)
    found = withstand.closest(linear(), (x, y), "linf:0.1")
    assert [one.bound for one in found.samples] == pytest.approx([1.25 / 5.5, 0.0, 1.8 / 5.5], rel=1e-5)
    assert [one.distance for one in found.samples] == pytest.approx([1.25 / 5.5, 0.0, 1.8 / 5.5], rel=1e-4)
    assert (found.n, found.exact) == (3, 3)
    assert found.median_bound == pytest.approx(1.25 / 5.5, rel=1e-5)


def test_a_condition_and_a_budget(lab):
    given = (lab.onnx, lab.x[:2], "l2:1", withstand.out[3] < 100)
    found = withstand.closest(*given, budget=1e-3)
    assert found.exact == 0
    assert all(one.bound <= one.distance for one in found.samples)


def test_a_short_time_is_enough_for_a_first_bound(lab):
    """Linear bounds prove a radius before any program is solved."""
    found = withstand.closest(lab.onnx, lab.npz, "linf:0.1", limit=1, budget=10)
    assert 0.01 < found.median_bound <= found.samples[0].distance < 1


def test_another_norm_is_refused(lab):
    with pytest.raises(InputError, match="l0"):
        withstand.closest(lab.onnx, lab.npz, "l0:3", limit=1)
