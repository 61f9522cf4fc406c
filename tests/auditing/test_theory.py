"""What theory says of a model: figures against those of its own weights, and bounds that hold on held-out data."""

import math

import pytest
import torch
from torch import nn

from withstand.attacks.fgsm import FGSM
from withstand.auditing.theory import theory
from withstand.builtin.models import builtin_model
from withstand.core.errors import InputError
from withstand.core.runner import run
from withstand.core.threat_text import parse_threat
from withstand.generalisation.correlation import weight_correlation
from withstand.generalisation.gibbs import gibbs_risk
from withstand.generalisation.layers import graph_of, layers_of
from withstand.generalisation.pac_bayes import catoni, maurer, mcallester
from withstand.graph.capture import from_module
from withstand.graph.ir import Graph
from withstand.io.data import load_data


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two clouds of points in the plane, in [0, 1], one sample in ten with the wrong label."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=generator)
    x = 0.25 + 0.5 * y[:, None] + 0.05 * torch.randn(n, 2, generator=generator)
    flipped = torch.rand(n, generator=generator) < 0.1
    return x.clamp(0, 1), torch.where(flipped, 1 - y, y)


def separator() -> nn.Linear:
    """The classifier of the clouds by x0 + x1 > 1."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
        layer.bias.copy_(torch.tensor([1.0, -1.0]))
    return layer


def test_figures_are_those_of_the_weights() -> None:
    module = builtin_model("digits-cnn")
    found = theory(module, "digits:train", sigmas=(0.03,), draws=2, limit=20)
    weights = [part.weight.detach().double() for part in module if isinstance(part, nn.Conv2d | nn.Linear)]
    assert [layer.rho for layer in found.layers] == pytest.approx([float(weight_correlation(w)) for w in weights])
    assert [layer.neurons for layer in found.layers] == [16, 32, 64, 10]
    assert [layer.weights for layer in found.layers] == [9, 144, 512, 64]
    squares = sum(float(value.detach().double().square().sum()) for value in module.parameters())
    assert found.distance == pytest.approx(math.sqrt(squares))
    assert found.parameters == sum(value.numel() for value in module.parameters())
    mean = sum(layer.divergence or 0 for layer in found.layers) / 4
    assert found.measure == pytest.approx(squares / 2 + mean)
    assert found.pac_bayes[0].kl == pytest.approx(squares / (2 * 0.03**2))
    assert found.best.vacuous


def test_bounds_are_those_of_the_formulas_with_their_share_of_delta() -> None:
    found = theory(separator(), blobs(500, 0), sigmas=(0.1, 0.3), draws=20, delta=0.1)
    for entry in found.pac_bayes:
        kl = 6 / (2 * entry.sigma**2)
        assert entry.kl == pytest.approx(kl)
        wanted = [bound(entry.risk_upper, kl, 500, 0.045).value for bound in (mcallester, maurer, catoni)]
        assert [bound.value for bound in entry.bounds] == pytest.approx(wanted)
        assert {bound.delta for bound in entry.bounds} == {0.1}


def test_bounds_hold_on_unseen_data_and_say_something() -> None:
    found = theory(separator(), blobs(4000, 1), sigmas=(0.1, 0.3), draws=50)
    assert not found.best.vacuous
    x, y = blobs(20_000, 2)
    graph = graph_of(from_module(separator(), (2,)))
    for entry in found.pac_bayes:
        unseen = gibbs_risk(graph, layers_of(graph), x, y, sigma=entry.sigma, draws=50, seed=9)
        assert unseen.mean < min(bound.value for bound in entry.bounds)


def test_the_drawn_risk_of_a_linear_classifier_is_a_normal_probability() -> None:
    """One input of one feature: its score difference is normal with a known mean and spread."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [0.0]]))
        layer.bias.zero_()
    graph = graph_of(from_module(layer, (1,)))
    x, y = torch.full((1, 1), 0.5), torch.zeros(1, dtype=torch.int64)
    found = gibbs_risk(graph, layers_of(graph), x, y, sigma=1.0, draws=1000)
    spread = math.sqrt(2 * (0.5**2 + 1))
    known = 0.5 * math.erfc(0.5 / spread / math.sqrt(2))
    assert found.mean == pytest.approx(known, abs=4 * math.sqrt(known * (1 - known) / 1000))
    assert known < found.upper < found.mean + 0.1
    assert torch.equal(graph.constant(layers_of(graph)[0].constants[0]), torch.tensor([[1.0], [0.0]]))


def test_outputs_that_are_no_numbers_count_as_errors() -> None:
    layer = separator()
    graph = graph_of(from_module(layer, (2,)))
    x = torch.full((4, 2), float("nan"))
    found = gibbs_risk(graph, layers_of(graph), x, torch.zeros(4, dtype=torch.int64), sigma=0.1, draws=3)
    assert found.mean == found.upper == 1


def test_another_loss_may_be_bounded_but_only_within_its_range() -> None:
    graph = graph_of(from_module(separator(), (2,)))
    x, y = blobs(50, 3)
    half = gibbs_risk(
        graph, layers_of(graph), x, y, sigma=0.1, draws=5, errors=lambda f, a, b: torch.full((len(a),), 0.5)
    )
    assert half.mean == 0.5
    with pytest.raises(InputError, match="from 0 to 1"):
        gibbs_risk(graph, layers_of(graph), x, y, sigma=0.1, draws=5, errors=lambda f, a, b: 2 + f(a)[:, 0] * 0)


def test_with_a_threat_the_bounds_hold_for_the_robust_error() -> None:
    found = theory(separator(), blobs(4000, 1), threat="linf:0.15", sigmas=(0.1,), draws=50)
    (entry,) = found.pac_bayes
    plain = theory(separator(), blobs(4000, 1), sigmas=(0.1,), draws=50)
    assert entry.risk > plain.pac_bayes[0].risk + 0.01
    assert not found.best.vacuous
    graph, (x, y) = graph_of(from_module(separator(), (2,))), blobs(2000, 2)

    def attacked(network: Graph, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (run(FGSM(), network, x, y, parse_threat("linf:0.15")).margin <= 0).double()

    unseen = gibbs_risk(graph, layers_of(graph), x, y, sigma=0.1, draws=10, seed=9, errors=attacked)
    assert plain.pac_bayes[0].risk + 0.01 < unseen.mean < min(bound.value for bound in entry.bounds)


def test_interval_bounds_of_one_layer_are_exact_so_the_risk_is_that_of_the_attack() -> None:
    graph, (x, y) = graph_of(from_module(separator(), (2,))), blobs(300, 2)
    threat = parse_threat("linf:0.15")
    found = theory(separator(), (x, y), threat=threat, sigmas=(0.1,), draws=10)
    attacked = gibbs_risk(
        graph,
        layers_of(graph),
        x,
        y,
        sigma=0.1,
        draws=10,
        errors=lambda network, x, y: (run(FGSM(), network, x, y, threat).margin <= 0).double(),
    )
    assert found.pac_bayes[0].risk == pytest.approx(attacked.mean, abs=1e-3)


def test_the_network_before_training_is_the_priors_mean() -> None:
    held_out = load_data("digits").head(300)
    found = theory("digits-cnn", held_out, initial="digits-cnn", sigmas=(0.003,), draws=40)
    assert found.distance == 0
    assert found.pac_bayes[0].kl == 0
    assert found.best.value < 0.4
    start = separator()
    with torch.no_grad():
        start.weight.zero_()
    moved = theory(separator(), blobs(50, 0), initial=start, sigmas=(0.1,), draws=2)
    assert moved.distance == pytest.approx(2)


def test_pointwise_transposed_and_normalised_layers_are_listed() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 3, groups=2),
        nn.Flatten(),
        nn.Linear(2 * 36, 3),
    )
    x, y = torch.rand(12, 1, 6, 6), torch.randint(3, (12,))
    found = theory(net, (x, y), sigmas=(0.1,), draws=2)
    assert [layer.rho is None for layer in found.layers] == [False, True, False, False]
    assert [layer.neurons for layer in found.layers] == [4, 4, 2, 3]
    assert [layer.weights for layer in found.layers] == [9, 4, 18, 72]
    assert found.layers[2].rho == 0
    assert found.parameters == sum(value.numel() for value in net.parameters())


def test_constants_that_stay_fixed_are_told() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.shift = nn.Parameter(torch.rand(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).relu() * self.shift

    told = theory(Shifted(), blobs(20, 0), sigmas=(0.1,), draws=2).notes
    assert any("1 other constants" in note for note in told)
    assert not any("other constants" in note for note in theory(separator(), blobs(20, 0), draws=2).notes)


class Undrawable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.mark.parametrize(
    ("arguments", "options", "word"),
    [
        ((separator(), torch.rand(20, 2)), {}, "no labels"),
        ((separator(), (torch.rand(20, 2), torch.full((20,), 5))), {}, "label 5"),
        ((nn.Linear(2, 1), blobs(20, 0)), {}, "a score a class|one score a class"),
        ((Undrawable(), blobs(20, 0)), {}, "no fully connected layer"),
        ((separator(), blobs(20, 0)), {"initial": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))}, "other layers"),
        ((separator(), blobs(20, 0)), {"initial": nn.Linear(2, 2, bias=False)}, "other biases"),
        ((separator(), blobs(20, 0)), {"sigmas": ()}, "No sigma"),
        ((separator(), blobs(20, 0)), {"sigmas": (-0.1,)}, "sigma"),
        ((separator(), blobs(20, 0)), {"delta": 0.0}, "delta"),
        ((separator(), blobs(7, 0)), {}, "8 or more"),
        ((separator(), blobs(20, 0)), {"threat": "linf:x"}, "linf:x"),
        ((separator(), blobs(20, 0)), {"threat": "linf:0.1[0.4,0.6]"}, "domain"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: tuple, options: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        theory(*arguments, **{"draws": 2, **options})
