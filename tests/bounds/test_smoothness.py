"""The bound of the cross-entropy's second derivative, against eigenvalues of Hessians."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from withstand.bounds.smoothness import STEEP, smoothness
from withstand.core.errors import InputError
from withstand.graph.capture import capture
from withstand.graph.ops import OPS

SHAPE = (1, 6, 6)


class Branches(nn.Module):
    """Two ways from the input, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(36, 12), nn.Linear(36, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.last(torch.tanh(self.left(x)) - torch.sigmoid(self.right(x)) + self.left(x))


NETS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 5)),
    "one hidden layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ELU(), nn.Linear(20, 5)),
    "deep": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 9), nn.Softplus(), nn.Linear(9, 9), nn.GELU(), nn.Linear(9, 4)
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(24, 3),
    ),
    "normalised, curved to the end": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ELU(), nn.Flatten(), nn.Linear(48, 3), nn.Sigmoid()
    ),
    "branches": Branches,
}  # fmt: skip


def made(name: str, scale: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = NETS[name]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    return model


def largest(model: nn.Module, x: torch.Tensor, y: int) -> float:
    """The largest eigenvalue of the cross-entropy's Hessian at x [*shape]."""

    def loss(z: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(z[None]), torch.tensor([y]))

    hessian = torch.autograd.functional.hessian(loss, x, vectorize=True)
    assert isinstance(hessian, torch.Tensor)
    return float(torch.linalg.eigvalsh(hessian.reshape(x.numel(), x.numel()))[-1])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_no_hessian_has_a_larger_eigenvalue(name: str, scale: float) -> None:
    model = made(name, scale)
    bound = smoothness(capture(model, SHAPE))
    model.double()
    rng = torch.Generator().manual_seed(0)
    points = [size * torch.randn(SHAPE, dtype=torch.float64, generator=rng) for size in (0, 0.5, 2)]
    found = max(largest(model, x, y) for x in points for y in range(3))
    assert 0 < found <= bound


def test_it_is_attained_by_two_classes_and_a_linear_network() -> None:
    layer = nn.Linear(36, 2, bias=False)
    model = nn.Sequential(nn.Flatten(), layer)
    bound = smoothness(capture(model, SHAPE))
    model.double()
    assert largest(model, torch.zeros(SHAPE, dtype=torch.float64), 0) == pytest.approx(bound, rel=1e-5)
    apart = (layer.weight[0] - layer.weight[1]).detach()
    assert bound == pytest.approx(float(apart.square().sum()) / 4, rel=1e-5)


def test_one_hidden_neuron_by_hand() -> None:
    first, last = nn.Linear(3, 1), nn.Linear(1, 2)
    model = nn.Sequential(first, nn.Softplus(), last)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 2.0, 2.0]]))
        last.weight.copy_(torch.tensor([[0.5], [-1.5]]))
    # the slope of the loss by the neuron is at most 2, its bend 2^2 / 4; softplus turns by 1/4 and has slopes up to 1
    assert smoothness(capture(model, (3,))) == pytest.approx(2 * 0.25 * 9 + 1 * 9, rel=1e-5)


@pytest.mark.parametrize("op", STEEP)
def test_slopes_and_turns_of_the_table_are_bounds_and_nearly_reached(op: str) -> None:
    x = torch.linspace(-30, 30, 600_001, dtype=torch.float64).requires_grad_()
    slope = torch.autograd.grad(OPS[op].run(x, **({"alpha": 1.0} if op == "elu" else {})).sum(), x, create_graph=True)[
        0
    ]
    turn = torch.autograd.grad(slope.sum(), x)[0]
    steep, sharp = STEEP[op]
    assert 0.999 * steep <= slope.abs().max() <= steep
    assert 0.999 * sharp <= turn.abs().max() <= sharp


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.SELU(), nn.ELU(0.5), nn.LeakyReLU(), nn.MaxPool1d(2), nn.Hardtanh()])
def test_kinks_have_no_bound(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(4 if isinstance(layer, nn.MaxPool1d) else 8, 3))
    with pytest.raises(InputError, match=r"^The operator '.*' at node '.*' has no bounded second derivative; "):
        smoothness(capture(model, (8,)))


def test_a_regression_is_refused() -> None:
    with pytest.raises(InputError, match="one logit a class"):
        smoothness(capture(nn.Linear(8, 1), (8,)))


def test_a_map_too_large_for_its_singular_values_is_bounded_by_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = capture(made("convolutions", 1.0), SHAPE)
    exact = smoothness(graph)
    monkeypatch.setattr("withstand.bounds.smoothness.DENSE", 0)
    assert exact < smoothness(graph) < 100 * exact
