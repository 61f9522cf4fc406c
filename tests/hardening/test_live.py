"""Live graphs: the module's function of now, on the autograd tape, with gradients of its parameters."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.graph.aten_walk import CaptureError
from withstand.graph.capture import capture
from withstand.hardening.parts.live import live, statistics

SHAPE = (2, 6, 6)


class Residual(nn.Module):
    """Batch normalisations, a sum, a weight of one number, a buffer and a reparametrised layer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(1))
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(144, 3))
        self.register_buffer("mean", torch.full((2, 1, 1), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.one(self.first(x - self.mean)))
        hidden = torch.nn.functional.gelu(self.two(self.second(hidden)) * self.scale + hidden)
        return self.last(hidden.flatten(1)) * 0.5


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5)
    )


def learn(module: nn.Module, x: Tensor) -> None:
    """Some steps in training mode, so that weights and running statistics move."""
    optimiser = torch.optim.SGD(module.parameters(), 0.05)
    module.train()
    for _ in range(3):
        optimiser.zero_grad()
        module(x).square().mean().backward()
        optimiser.step()


def gradients(module: nn.Module, outputs: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(outputs.shape, generator=generator).to(outputs)
    return list(torch.autograd.grad((outputs.sin() * weight).sum(), list(module.parameters()), retain_graph=True))


@pytest.fixture(params=[plain, Residual], ids=["plain", "residual"])
def made(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make: Callable[[], nn.Module] = request.param
    module, x = make(), torch.rand(7, *SHAPE)
    live(module, SHAPE)  # captured while scales are 1 and shifts 0, which no rewrite may rest on
    learn(module, x)
    return module, x


def test_the_graph_is_the_module_of_now(made: tuple[nn.Module, Tensor]) -> None:
    module, x = made
    module.eval()
    ours = live(module, SHAPE)(x)
    assert torch.allclose(ours, module(x), atol=1e-5)
    assert torch.allclose(ours, capture(copy.deepcopy(module), SHAPE)(x), atol=1e-5)
    for one, other in zip(gradients(module, ours), gradients(module, module(x)), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_with_the_statistics_of_a_batch_it_is_the_module_in_training(made: tuple[nn.Module, Tensor]) -> None:
    module, x = made
    module.train()
    with statistics(module) as found:
        theirs = module(x)
    ours = live(module, SHAPE, found)(x)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one, other in zip(gradients(module, ours), gradients(module, theirs), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=2e-5)
    assert not torch.allclose(ours, live(module, SHAPE)(x), atol=1e-3)


def test_it_computes_in_the_module_s_type() -> None:
    torch.manual_seed(0)
    module = Residual().double()
    learn(module, torch.rand(7, *SHAPE).double())
    module.eval()
    x = torch.rand(3, *SHAPE).double()
    ours = live(module, SHAPE)(x)
    assert ours.dtype == torch.float64
    assert torch.allclose(ours, module(x), rtol=0, atol=1e-12)


def test_mode_statistics_and_gradients_stay() -> None:
    torch.manual_seed(0)
    module = Residual().train()
    before = copy.deepcopy(module.state_dict())
    live(module, SHAPE)
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_a_changed_module_is_captured_anew() -> None:
    torch.manual_seed(0)
    module: Any = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    x = torch.rand(2, *SHAPE)
    live(module, SHAPE)
    nn.utils.parametrizations.weight_norm(module[1])
    with torch.no_grad():
        module[1].parametrizations.weight.original0.mul_(2)
    assert torch.allclose(live(module, SHAPE)(x), module(x), atol=1e-6)


def test_what_cannot_be_captured_is_named() -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(CaptureError, match="random"):
        live(Random(), SHAPE)


def test_a_graph_of_a_form_that_depends_on_weights_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"prelu.* of its weights"):
        live(nn.Sequential(nn.PReLU(), nn.Flatten(), nn.Linear(72, 3)), SHAPE)


def test_a_layer_that_normalises_twice_is_refused() -> None:
    layer = nn.BatchNorm1d(4)
    module = nn.Sequential(layer, nn.ReLU(), layer)
    with pytest.raises(InputError, match="used twice"), statistics(module):
        module(torch.rand(5, 4))
    assert not layer._forward_pre_hooks
