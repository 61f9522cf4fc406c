"""Objectives on bounds: gradients against differences, bounds against closed forms, sampling and other methods."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.bounds import interval, lower_bound
from withstand.core.balls import Linf
from withstand.core.property import Argmax
from withstand.core.registry import build
from withstand.graph.capture import capture
from withstand.hardening.objective import Objective
from withstand.hardening.objectives.pgd import PGD
from withstand.hardening.parts.certified import around, bounded, box, shrink, unsteadiness, worst_case
from withstand.hardening.parts.live import statistics
from withstand.hardening.state import State

RADIUS = 0.1
NAMES = ("ibp", "crown-ibp", "sabr", "mtl-ibp")


def network(*, norm: bool = True, double: bool = False) -> Any:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)]
    kept = [part for part in layers if norm or not isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    return nn.Sequential(*kept).to(torch.float64 if double else torch.float32)


def batch(*, double: bool = False, rows: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(rows, 1, 8, 8, generator=generator)
    return (x.double() if double else x), torch.arange(rows) % 4


def state(ramp: float = 1.0, radius: float = RADIUS) -> State:
    made = State(f"linf:{radius}")
    made.ramp = ramp
    return made


def objective(text: str) -> Objective:
    return build("objective", text)


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize(
    "text", ["ibp", "crown-ibp:linear=0.6", "crown-ibp:linear=1", "mtl-ibp", "sabr:share=0.5", "sabr:share=1"]
)
def test_gradients_agree_with_differences(text: str, norm: bool) -> None:
    module, (x, y), made = network(norm=norm, double=True).train(), batch(double=True), objective(text)
    here = state(0.5, 0.06)
    at = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(4)).double()

    def value() -> Tensor:
        return made.loss(module, x, at, y, here).value

    parameters = list(module.parameters())
    slopes = torch.autograd.grad(value(), parameters)
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        ways = [torch.randn(p.shape, generator=generator).double() for p in parameters]
        told = sum(float((slope * way).sum()) for slope, way in zip(slopes, ways, strict=True))
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, way in zip(parameters, ways, strict=True):
                    p.add_(sign * 1e-7 * way)
                ends.append(float(value()))
                for p, way in zip(parameters, ways, strict=True):
                    p.sub_(sign * 1e-7 * way)
        assert told == pytest.approx((ends[0] - ends[1]) / 2e-7, rel=1e-4, abs=1e-5)


def test_biases_of_zero_have_gradients() -> None:
    module, (x, y) = network(norm=False), batch()
    with torch.no_grad():
        module[-1].bias.zero_()
    for text in ("ibp:clean=0", "crown-ibp:clean=0,linear=1"):
        (slope,) = torch.autograd.grad(objective(text)(module, x, y, state()).value, module[-1].bias)
        assert bool((slope != 0).all())


def test_bounds_of_a_linear_network_are_exact() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 6), nn.Linear(6, 4)).double()
    x, y = batch(double=True)
    low, high = box(Linf(0.3), x)
    margins = bounded(module, (low, high), {}).margins(y)
    graph = capture(module, (1, 8, 8)).double()
    for row in range(3):
        points = x.clone().requires_grad_()
        value = Argmax().targets(graph(points), y)[:, row]
        (slope,) = torch.autograd.grad(value.sum(), points)
        worst = torch.where(slope > 0, low, high)
        exact = Argmax().targets(module(worst), y)[:, row]
        assert torch.allclose(margins[:, row], exact, atol=1e-9)


def test_points_of_the_box_stay_above_the_bounds() -> None:
    module, (x, y) = network().eval(), batch()
    region = box(Linf(RADIUS), x)
    found = bounded(module, region, {})
    margins, fused = found.margins(y), found.fused(y, found.margins(y)).detach()
    generator = torch.Generator().manual_seed(0)
    worst = torch.full_like(margins, torch.inf)
    losses = torch.zeros(len(x))
    for _ in range(500):
        share = torch.rand(x.shape, generator=generator).round()
        outputs = module(region[0] + share * (region[1] - region[0])).detach()
        worst = torch.minimum(worst, Argmax().targets(outputs, y))
        losses = torch.maximum(losses, F.cross_entropy(outputs, y, reduction="none"))
    assert bool((margins <= worst + 1e-5).all())
    assert bool((margins >= worst - 5).all())
    assert float(fused) >= float(losses.mean()) - 1e-5


def test_at_radius_zero_bounds_are_the_clean_margins() -> None:
    module, (x, y) = network(double=True).eval(), batch(double=True)
    found = bounded(module, (x, x), {})
    clean = Argmax().targets(module(x), y)
    assert torch.allclose(found.margins(y), clean, atol=1e-12)
    loss = F.cross_entropy(module(x), y)
    assert torch.allclose(worst_case(found.margins(y)), loss, atol=1e-12)
    assert torch.allclose(found.fused(y, found.margins(y)), loss, atol=1e-9)


def test_margins_are_those_of_the_project_and_no_looser_than_without_elision() -> None:
    module, (x, y) = network().eval(), batch()
    threat = Linf(RADIUS)
    margins = bounded(module, box(threat, x), {}).margins(y)
    graph = capture(module, (1, 8, 8))
    theirs = lower_bound("ibp", graph, threat, x, Argmax().rows(y, 4))
    assert bool((theirs >= margins - 1e-4).all())  # where only affine maps precede, audits do better
    low, high = interval(graph, *box(threat, x))[graph.output]
    apart = torch.stack([low[i, y[i]] - high[i, torch.arange(4) != y[i]] for i in range(len(x))])
    assert bool((margins >= apart - 1e-5).all())
    assert bool((margins > apart + 1e-2).any())


def test_the_fused_loss_is_no_looser_than_interval_bounds_and_follows_linear_bounds() -> None:
    module, (x, y) = network().eval(), batch()
    for radius in (0.002, 0.02, 0.1):
        threat = Linf(radius)
        found = bounded(module, box(threat, x), {})
        by_boxes = float(worst_case(found.margins(y)).detach())
        fused = float(found.fused(y, found.margins(y)).detach())
        assert fused <= by_boxes + 1e-5
        by_lines = lower_bound("crown-ibp", capture(module, (1, 8, 8)), threat, x, Argmax().rows(y, 4))
        if radius == 0.002:  # chords of short intervals lose nothing, and one row may do better than three
            assert fused <= float(worst_case(by_lines)) + 1e-4
            assert fused < by_boxes - 1e-4


def test_small_boxes_lie_inside_the_threat_and_hold_their_width() -> None:
    x, _ = batch()
    x[0] = 0.0
    x[1] = 1.0
    low, high = box(Linf(0.3), x)
    assert float(low.min()) == 0.0
    assert float(high.max()) == 1.0
    for at in (low, high, x, x + 1, low * 0.3 + high * 0.7):
        for share in (0.1, 0.6, 1.0):
            left, right = around((low, high), at, share)
            assert bool((left >= low).all())
            assert bool((right <= high).all())
            assert torch.allclose(right - left, share * (high - low), atol=1e-6)
            near = at.clamp(low, high)
            assert bool(((near >= left - 1e-6) & (near <= right + 1e-6)).all())


def test_ends_of_the_family_meet() -> None:
    module, (x, y), here = network(norm=False), batch(), state()

    def value(text: str) -> float:
        return float(objective(text)(module, x, y, here).value.detach())

    interval_training = value("ibp:clean=0")
    assert value("mtl-ibp:alpha=1") == interval_training
    assert value("sabr:share=1") == pytest.approx(interval_training, rel=1e-5)
    assert value("crown-ibp:clean=0") == interval_training
    adversarial = PGD(steps=8).find(module, x, y, here)
    mixed = objective("mtl-ibp:alpha=0")
    assert torch.equal(mixed.find(module, x, y, here), adversarial)
    assert torch.equal(mixed(module, x, y, here).value, PGD(steps=8)(module, x, y, here).value)
    assert value("sabr:share=0.0001") == pytest.approx(value("mtl-ibp:alpha=0"), abs=2e-2)


def test_parts_have_the_weights_that_were_asked_for() -> None:
    module, (x, y) = network(norm=False), batch()

    def value(text: str, ramp: float = 1.0, radius: float = RADIUS) -> float:
        return float(objective(text)(module, x, y, state(ramp, radius)).value.detach())

    worst, natural, attacked = value("ibp:clean=0"), value("natural"), value("mtl-ibp:alpha=0")
    linear = value("crown-ibp:clean=0,linear=1")
    assert value("mtl-ibp:alpha=0.2") == pytest.approx(0.2 * worst + 0.8 * attacked)
    assert value("ibp:clean=0.3") == pytest.approx(0.3 * natural + 0.7 * worst)
    assert value("crown-ibp:clean=0.3,linear=0.6") == pytest.approx(0.3 * natural + 0.7 * (0.6 * linear + 0.4 * worst))
    for half, whole in (("ibp:clean=0", "ibp:clean=0.4"), ("crown-ibp:clean=0,linear=0.5", "crown-ibp:clean=0.4")):
        inner = value(half, radius=RADIUS / 2)
        assert value(f"{whole},steady=0", 0.5) == pytest.approx(0.7 * natural + 0.3 * inner)


@pytest.mark.parametrize("name", ["ibp", "crown-ibp"])
def test_without_radius_it_is_natural_training_bit_for_bit(name: str) -> None:
    ends = []
    for text, here in ((f"{name}:clean=1,steady=0", state(radius=0)), (name, state(0.0)), ("natural", state())):
        module, (x, y), made = network().train(), batch(), objective(text)
        optimiser = torch.optim.SGD(module.parameters(), 0.1)
        for _ in range(3):
            optimiser.zero_grad()
            made(module, x, y, here).value.backward()
            optimiser.step()
        ends.append(module.state_dict())
    for name, value in ends[2].items():
        assert torch.equal(ends[0][name], value)
        assert torch.equal(ends[1][name], value)


def test_normalisation_counts_the_clean_batch_once() -> None:
    module, (x, y) = network().train(), batch()
    for passes, text in enumerate(("ibp", "crown-ibp:linear=1", "sabr", "mtl-ibp", "mtl-ibp:alpha=0"), start=1):
        objective(text)(module, x, y, state())
        assert int(module[1].num_batches_tracked) == passes, text


def test_bounds_use_the_statistics_of_the_clean_batch() -> None:
    module, (x, y) = network().train(), batch()
    with statistics(module) as given:
        outputs = module(x)
    found = bounded(module, (x, x), given)
    assert torch.allclose(found.margins(y), Argmax().targets(outputs, y), atol=1e-5)


def test_penalties_against_their_formulas() -> None:
    module, (x, _) = network(norm=False).eval().requires_grad_(False), batch()
    low, high = box(Linf(RADIUS), x)
    found = bounded(module, (low, high), {})
    centre, reach = (low + high) / 2, (high - low) / 2
    middle = F.conv2d(centre, module[0].weight, module[0].bias, 2)
    width = F.conv2d(reach, module[0].weight.abs(), None, 2)
    pairs = [(middle - width, middle + width)]
    lower, upper = (F.relu(end).flatten(1) for end in pairs[0])
    middle = F.linear((lower + upper) / 2, module[3].weight, module[3].bias)
    width = F.linear((upper - lower) / 2, module[3].weight.abs())
    pairs.append((middle - width, middle + width))
    ratios = []
    for lower, upper in pairs:
        ratios.append(float((high - low).mean() / (upper - lower).mean()))
        centre = (lower + upper) / 2
        on, off = float(centre[lower > 0].sum()), -float(centre[upper < 0].sum())
        spread = (centre - centre.mean()) ** 2
        wide, narrow = float(spread[lower > 0].sum()), float(spread[upper < 0].sum())
        assert min(on, off, wide, narrow) > 0
        ratios += [min(on / off, off / on), min(wide / narrow, narrow / wide)]
    total = sum(max(0.0, 0.5 - ratio) / 0.5 for ratio in ratios)
    assert total > 0
    assert float(unsteadiness(found)) == pytest.approx(total / 2, rel=1e-4)


def test_the_drawn_start_keeps_bounds_from_growing() -> None:
    torch.manual_seed(0)
    module: Any = nn.Sequential(
        *(part for _ in range(6) for part in (nn.Linear(200, 200), nn.ReLU())), nn.Linear(200, 4)
    )
    x = torch.rand(8, 200)
    last = module[-1].weight.detach().clone()

    def growth() -> float:
        found = bounded(module, box(Linf(RADIUS), x), {}).relaxation
        low, high = found.boxes[found.graph.nodes[-1].inputs[0]]
        return float((high - low).mean().detach()) / RADIUS

    given = growth()
    shrink(module)
    drawn = growth()
    assert 0.3 < drawn < 3
    assert given > 10 * drawn
    assert torch.equal(module[-1].weight, last)
    assert float(module[0].weight.std().detach()) == pytest.approx((2 * torch.pi) ** 0.5 / 200, rel=0.02)


def test_only_a_given_start_keeps_weights() -> None:
    for name in NAMES:
        module = network()
        before = module[0].weight.detach().clone()
        objective(name).prepare(module)
        assert torch.equal(module[0].weight, before)
        replace(objective(name), start="shi").prepare(module)  # type: ignore[type-var]
        assert not torch.equal(module[0].weight, before)
