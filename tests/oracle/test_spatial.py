"""Flow fields, rotations and shifts against what is known of them in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from withstand.attacks.noise import Noise
from withstand.attacks.pgd import PGD
from withstand.attacks.rotate_translate import RotateTranslate, grid
from withstand.attacks.stadv import Stadv, flow_loss, flow_slope
from withstand.core.closest import closest
from withstand.core.flow_linf import FlowLinf
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import run
from withstand.core.spatial import Flow, Spatial, roughness
from withstand.core.threat import Threat
from withstand.io import moves

SHAPES = [(1, 7, 9), (3, 8, 8), (6, 5), (12,), (9, 10, 3)]
THREATS = [
    Flow(0.4),
    Flow(0.4, (-1.0, 2.0)),
    Spatial(),
    Spatial(0.5, (-1.0, 2.0)),
    Spatial(degrees=0.0, pixels=2.0),
    FlowLinf(),
]


def pictures(shape: tuple[int, ...], rows: int = 4, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0))


def random(rows: int) -> RowRandom:
    return RowRandom(row_seeds(0, range(rows), "spatial"))


def ramp(weight: Tensor, bias: float) -> nn.Module:
    """Two logits whose margin is linear in the picture."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([weight.flatten(), torch.zeros(weight.numel())]))  # type: ignore[union-attr]
        net[1].bias.copy_(torch.tensor([bias, 0.0]))  # type: ignore[union-attr]
    return net.requires_grad_(False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.text())
def test_no_move_changes_nothing_and_samples_are_inside(threat: Threat, shape: tuple[int, ...]) -> None:
    x0 = pictures(shape)
    assert torch.equal(threat.render(x0, threat.start(x0)), x0)
    assert (threat.distance(x0, threat.start(x0)) == 0).all()
    assert len(threat.distance(x0[:0], threat.sample(x0[:0], random(0)))) == 0
    move = threat.sample(x0, random(4))
    assert threat.contains(x0, move).all()
    assert threat.contains(x0, threat.project(x0, 100 * move)).all()
    torch.testing.assert_close(threat.project(x0, 0.5 * move), 0.5 * move)
    low, high = threat.domain
    assert ((threat.render(x0, move) >= low) & (threat.render(x0, move) <= high)).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.text())
def test_replay_reckons_moves_alike_in_numpy(threat: Threat, shape: tuple[int, ...]) -> None:
    x0 = pictures(shape, 4, *threat.domain)
    move = threat.sample(x0, random(4))
    x, distance = threat.deploy(x0, move), threat.distance(x0, move)
    for i in range(len(x0)):
        before, moved = x0[i].numpy(), move[i].numpy()
        made = np.clip(moves.render(threat.norm, before, moved, threat.domain[0]), *threat.domain)
        assert np.abs(made - x[i].numpy()).max() < moves.rounding(before, threat.domain[0]) / 4
        assert math.isclose(moves.size(threat.norm, moved, threat.limits), float(distance[i]), rel_tol=1e-6)


def test_a_flow_of_one_pixel_is_a_shift_by_one_column() -> None:
    x0, flow = pictures((2, 5, 6)), torch.zeros(4, 2, 5, 6)
    flow[:, 1] = 1
    moved = Flow(9.0).render(x0, flow)
    assert torch.equal(moved[..., :-1], x0[..., 1:])
    assert torch.equal(moved[..., -1], x0[..., -1])


def test_turns_and_shifts_of_whole_pixels_are_exact() -> None:
    x0 = pictures((2, 6, 6))
    right, up, quarter = torch.tensor([[0.0, 1, 0]] * 4), torch.tensor([[0.0, 0, -2]] * 4), torch.tensor([[90.0, 0, 0]])
    assert torch.equal(Spatial().render(x0, right)[..., 1:], x0[..., :-1])
    assert (Spatial().render(x0, right)[..., 0] == 0).all()
    assert torch.equal(Spatial().render(x0, up)[..., :-2, :], x0[..., 2:, :])
    turned = Spatial(degrees=90).render(x0, quarter.expand(4, -1))
    torch.testing.assert_close(turned, torch.rot90(x0, 1, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("threat", [Flow(0.4), Spatial()], ids=lambda t: t.norm)
def test_slopes_of_moves_are_those_of_finite_differences(threat: Threat) -> None:
    x0 = pictures((2, 4, 5), 2).double()
    move = 0.83 * threat.sample(x0, random(2))
    assert torch.autograd.gradcheck(lambda m: threat.render(x0, m), move.requires_grad_())


def test_the_size_of_a_flow_counts_the_edge() -> None:
    flow = torch.zeros(3, 2, 4, 5)
    flow[1, 0] = 3.0  # the whole picture down: only one edge of each axis differs, the wider one counts
    flow[2, 1, 1, 2] = 1.0  # one pixel: it and its neighbour differ, for each of the four
    torch.testing.assert_close(
        roughness(flow), torch.tensor([0.0, 3 * math.sqrt(5 / 20), math.sqrt(2 / 20)]).double(), rtol=1e-6, atol=1e-9
    )


def test_a_step_along_a_flow_of_length_1_beats_the_raw_slope() -> None:
    slope = torch.randn(5, 2, 8, 9, generator=torch.Generator().manual_seed(1))
    step = Flow(1.0).steepest(slope)
    torch.testing.assert_close(roughness(step), torch.ones(5).double())
    raw = slope / roughness(slope).to(slope)[:, None, None, None]
    gain, raw_gain = ((part * slope).sum((1, 2, 3)) for part in (step, raw))
    assert (gain > 1.1 * raw_gain).all()
    some = torch.randn(200, 2, 8, 9, generator=torch.Generator().manual_seed(2))
    rival = some / roughness(some).to(some)[:, None, None, None]
    assert (gain[:, None] > torch.einsum("rchw,bchw->br", rival, slope)).all()


def test_the_flow_loss_of_a_constant_flow_is_the_softening_alone() -> None:
    flow = torch.full((2, 2, 6, 7), 1.7, dtype=torch.float64)
    torch.testing.assert_close(flow_loss(flow), torch.full((2,), 6 * 7 * 4 * 1e-4, dtype=torch.float64))
    rough = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(flow_loss, rough.requires_grad_())
    loss, slope = flow_slope(rough.detach())
    assert torch.equal(loss, flow_loss(rough).detach())
    assert slope.shape == rough.shape


def test_even_pictures_cannot_be_attacked_by_flows() -> None:
    x0 = torch.full((3, 1, 6, 6), 0.5)
    net = ramp(torch.randn(36, generator=torch.Generator().manual_seed(0)), 20.0)
    bias = float(-net(x0)[:, 0].min()) + 1e-3
    close = ramp(torch.randn(36, generator=torch.Generator().manual_seed(0)), 20.0 + bias)
    y = torch.zeros(3, dtype=torch.long)
    for attack in (Stadv(steps=10, searches=2), PGD(steps=10)):
        assert not run(attack, close, x0, y, Flow(2.0)).refuted.any()


def edges(rows: int = 6) -> tuple[nn.Module, Tensor, Tensor]:
    """Pictures of an upright edge, and a net that asks where it is: moving it by two fifths of a column is enough."""
    x0 = torch.zeros(rows, 1, 8, 8)
    x0[..., 4:] = 1.0
    x0 = x0 * torch.linspace(0.8, 1, rows)[:, None, None, None]
    weight = torch.zeros(8, 8)
    weight[:, 4] = 1.0
    return ramp(weight, -0.6 * 8 * 0.9), x0, torch.zeros(rows, dtype=torch.long)


def test_stadv_finds_the_flow_that_moves_an_edge() -> None:
    net, x0, y = edges()
    found = closest(Stadv(steps=40), net, x0, y, Flow(1.0))
    assert found.refuted.all()
    need = 1 - 0.6 * 0.9 / x0[:, 0, 0, 4]  # a shift of the whole picture by so much is enough and costs no flow loss
    shift = torch.zeros(len(x0), 2, 8, 8)
    shift[:, 1] = -need[:, None, None]
    assert (found.distance < 1.7 * roughness(shift)).all()
    near = run(Stadv(steps=40), net, x0, y, Flow(float(found.distance.median())))
    assert near.refuted.any()
    assert not near.refuted.all()
    part = closest(Stadv(steps=40), net, x0[2:4], y[2:4], Flow(1.0), ids=[2, 3])
    assert torch.equal(part.distance, found.distance[2:4])


def test_the_flow_of_least_size_for_a_linear_model_is_bounded_from_below() -> None:
    net, x0, y = edges()
    found = closest(PGD(steps=30), net, x0, y, Flow(0.3))
    # half of the greys of column 4 must go: a flow of f columns there takes f of them away; every row needs its share
    need = 1 - 0.6 * 0.9 / x0[:, 0, 0, 4]
    flow = torch.zeros(len(x0), 2, 8, 8)
    flow[:, 1, :, 4] = -need[:, None]
    assert (found.distance < roughness(flow)).all()
    assert (found.distance > 0.1 * roughness(flow)).all()


def test_every_grid_of_odd_numbers_holds_the_picture_itself() -> None:
    for counts in ([31, 5, 5], [1, 3, 1], [1, 1, 1]):
        points = grid(counts)
        assert len(points) == math.prod(counts)
        assert (points == 0).all(1).sum() == 1
        assert torch.equal(points.abs().amax(0), torch.tensor([float(n > 1) for n in counts]))


def test_the_grid_finds_what_random_moves_miss() -> None:
    x0 = pictures((1, 8, 8), 40)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 5)).requires_grad_(False)
    y = net(x0).argmax(1)
    threat = Spatial(degrees=8, pixels=0.4)
    size = torch.tensor(threat.limits)
    found = run(RotateTranslate(angles=9), net, x0, y, threat)
    some = run(Noise(draws=10), net, x0, y, threat)
    assert found.refuted.sum() >= some.refuted.sum()
    every = torch.stack([net(threat.render(x0, (p * size).expand(40, -1))) for p in grid([9, 5, 5])])
    assert torch.equal(found.refuted, (every.argmax(2) != y).any(0))
    assert (found.queries[~found.refuted] == 1 + 9 * 5 * 5).all()


def test_no_turns_are_asked_about_where_none_are_allowed() -> None:
    x0 = pictures((1, 6, 6), 3)
    net = ramp(torch.zeros(36), 1.0)
    found = run(RotateTranslate(), net, x0, torch.zeros(3, dtype=torch.long), Spatial(degrees=0, pixels=2))
    assert (found.queries == 1 + 25).all()
