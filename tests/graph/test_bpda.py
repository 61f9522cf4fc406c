"""Layers passed backward through a stand-in: exact forward, seen through by attacks, proved as they are."""

import pytest
import torch
from measured import measured
from torch import Tensor, nn

import withstand
from withstand.core.errors import InputError
from withstand.graph.capture import from_module


def quantise(x: Tensor) -> Tensor:
    return (8 * x).round() / 8


@pytest.fixture(scope="module")
def samples() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A small network, inputs on the quantiser's grid, and the labels it gives them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).eval().requires_grad_(False)
        x = quantise(0.2 + 0.6 * torch.rand(60, 12))
        net[2].bias -= net(x).mean(0)
    return net, x, net(x).argmax(1)


def test_forward_is_exact_and_backward_the_identity() -> None:
    x = torch.rand(5, 12, requires_grad=True)
    y = withstand.bpda(quantise)(x)
    assert torch.equal(y, quantise(x))
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.ones(5, 12))


def test_backward_may_be_any_smooth_layer() -> None:
    x = torch.rand(5, 12, requires_grad=True)
    y = withstand.bpda(torch.sign, torch.tanh)(x)
    slope = torch.autograd.grad(y.sum(), x)[0]
    torch.testing.assert_close(slope, 1 - x.detach().tanh() ** 2)
    with pytest.raises(InputError, match="makes 1 of 12, its backward 12; give a backward"):
        withstand.bpda(lambda x: x.amax(1, keepdim=True))(x)


def test_attacks_see_through_a_quantiser(samples) -> None:
    net, x, y = samples
    threat, attacks = "linf:0.2", ["pgd:steps=40,restarts=2"]
    plain = withstand.attack(net, (x, y), threat, attacks)
    blind = withstand.attack(nn.Sequential(_Layer(), net), (x, y), threat, attacks)
    seeing = withstand.attack(nn.Sequential(withstand.bpda(quantise), net), (x, y), threat, attacks)
    assert "zero gradients" in [alarm.name for alarm in blind.alarms]
    assert not seeing.alarms
    assert measured(seeing.attacked_accuracy) < measured(blind.attacked_accuracy)
    wider, narrower = (
        measured(withstand.attack(net, (x, y), f"linf:{0.2 + shift}", attacks).attacked_accuracy)
        for shift in (1 / 16, -1 / 16)
    )
    assert wider - 0.02 <= measured(seeing.attacked_accuracy) <= narrower + 0.02
    assert measured(plain.attacked_accuracy) < 0.9


class _Layer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return quantise(x)


def test_what_is_proved_is_the_layer_itself(samples) -> None:
    net, x, y = samples
    model = from_module(nn.Sequential(withstand.bpda(quantise), net).eval(), (12,))
    assert model.passes
    assert model.graph is not None
    assert torch.equal(model(x + 0.03), model(x))
    asked = (x + 0.01).requires_grad_()
    slope = torch.autograd.grad(model(asked).sum(), asked)[0]
    assert bool((slope != 0).any())
    still = withstand.verify(model, (x, y), "linf:0.05", method="ibp")
    assert still.certified_accuracy == 1.0, "the quantiser takes small changes back, and ibp knows it"
