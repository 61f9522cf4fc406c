"""Black-box attacks: estimates against true slopes, distances against known ones, queries against rows really seen."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from withstand.attacks.autozoom import Autozoom
from withstand.attacks.boundary import Boundary
from withstand.attacks.geoda import GEODA
from withstand.attacks.hopskipjump import Hopskipjump
from withstand.attacks.nes import NES
from withstand.attacks.parts import codec
from withstand.attacks.parts.coordinates import differences, importance, newton, pick
from withstand.attacks.parts.frequency import smooth_noise
from withstand.attacks.parts.probing import slope, total
from withstand.attacks.parts.weights import Weights
from withstand.attacks.rays import Rays
from withstand.attacks.spsa import SPSA
from withstand.attacks.surfree import Surfree
from withstand.attacks.zoo import ZOO
from withstand.core.balls import L2, Linf
from withstand.core.closest import closest
from withstand.core.errors import InputError
from withstand.core.evidence import Told
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import run

DUAL = {"linf": 1.0, "l2": 2.0}
SIZE = 8
NEAREST = [
    (ZOO(queries=1500, coordinates=4), "l2"),
    (Autozoom(queries=1500, directions=8, steps=30), "l2"),
    (Boundary(queries=700), "l2"),
    (Hopskipjump(queries=1500), "l2"),
    (Hopskipjump(queries=1500), "linf"),
    (Rays(queries=300), "linf"),
    (Surfree(queries=300), "l2"),
    (GEODA(queries=1000), "l2"),
    (GEODA(queries=1500), "linf"),
]
near = pytest.mark.parametrize(("attack", "norm"), NEAREST, ids=[f"{type(a).__name__}-{norm}" for a, norm in NEAREST])


def random(rows: int, name: str = "black box") -> RowRandom:
    return RowRandom(row_seeds(0, range(rows), name))


def two(margin: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A model whose margin of label 0 is the function given."""

    def model(x: Tensor) -> Tensor:
        value = margin(x.flatten(1))
        return torch.stack([value, torch.zeros_like(value)], 1)

    return model


def linear(norm: str, rows: int = 4) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """A plane near points far from the domain's edges, and their distances from it."""
    generator = torch.Generator().manual_seed(4)
    w = torch.randn(SIZE, generator=generator)
    x0 = 0.4 + 0.2 * torch.rand(rows, SIZE, generator=generator)
    lowest = (x0 @ w).min()
    size = torch.linalg.vector_norm(w, DUAL[norm])
    model = two(lambda x: x @ w - lowest + 0.1 * size)
    return model, x0, (x0 @ w - lowest) / size + 0.1


@near
def test_distance_to_a_plane(attack: Any, norm: str) -> None:
    model, x0, truth = linear(norm)
    found = closest(attack, model, x0, torch.zeros(len(x0), dtype=torch.long), (Linf if norm == "linf" else L2)(0.1))
    ratio = found.distance / truth
    assert ratio.max() <= 1.25, ratio
    assert ratio.min() >= 1 - 1e-3
    assert found.queries.max() <= attack.queries + 1


@near
def test_distance_to_the_boundary_of_one_hidden_layer(attack: Any, norm: str) -> None:
    """A margin that is linear between kinks, in two inputs, whose boundary is found on a fine grid."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1)).requires_grad_(False)
        x0 = 0.3 + 0.4 * torch.rand(6, 2)
    grid = torch.cartesian_prod(*(torch.linspace(0, 1, 801),) * 2)
    level = float(net(grid).quantile(0.3))
    model = two(lambda x: net(x)[:, 0] - level)
    x0 = x0[model(x0)[:, 0] > 0.01]
    assert len(x0) >= 3
    wrong = grid[model(grid)[:, 0] <= 0]
    p = math.inf if norm == "linf" else 2.0
    truth = torch.cdist(x0, wrong, p).amin(1)
    found = closest(attack, model, x0, torch.zeros(len(x0), dtype=torch.long), (Linf if norm == "linf" else L2)(0.1))
    ratio = (found.distance - 2e-3) / truth
    assert ratio.max() <= 1.25, ratio
    assert ((found.distance + 2e-3) / truth).min() >= 1


@pytest.mark.parametrize("name", ["normal", "signs"])
def test_the_mean_estimate_is_the_gradient(name: str) -> None:
    """On a quadratic, whose differences are exact: a missing factor of the size or of 2 would show."""
    size, rows = 6, 20000
    generator = torch.Generator().manual_seed(0)
    a, q = torch.randn(size, generator=generator).double(), torch.randn(size, size, generator=generator).double()
    x = torch.full((rows, size), 0.5).double()
    rng = random(rows, name)
    asking = slope(x, x, Linf(0.4), getattr(rng, name), 2, 1e-3, "margin")
    ask = next(asking)
    estimate = torch.empty(0)
    try:
        while True:
            value = ask.x @ a + torch.einsum("bpi,ij,bpj->bp", ask.x, q, ask.x) / 2
            ask = asking.send(Told(value, value, None, None, torch.ones(rows, dtype=torch.bool)))
    except StopIteration as end:
        estimate = end.value
    truth = a + (q + q.T) @ x[0] / 2
    error = (estimate.mean(0) - truth).abs() / (estimate.std(0) / math.sqrt(rows))
    assert error.max() < 4  # the largest of six
    assert error.mean() < 1.5


def test_coordinate_slopes_are_those_of_autograd() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 1)).double()
    x = torch.rand(1, 5, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-3 * torch.eye(5).double()
    sizes = torch.full((1, 5), 1e-3).double()
    up, down = (net(x + sign * step).T for sign in (1, -1))
    found, bend = differences(net(x), up, down, sizes, sizes)
    leaf = x.requires_grad_()
    (truth,) = torch.autograd.grad(net(leaf).sum(), leaf, create_graph=True)
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=0)
    curvature = torch.stack([torch.autograd.grad(t, leaf, retain_graph=True)[0][0] for t in truth[0]]).diagonal()
    torch.testing.assert_close(bend[0], curvature, atol=1e-3, rtol=0)
    blocked = torch.where(torch.arange(5) == 2, 0.0, sizes)
    one_sided, flat = differences(net(x), up, net(x - torch.diag(blocked[0])).T, sizes, blocked)
    torch.testing.assert_close(one_sided, found, atol=2e-3, rtol=0)
    assert flat[0, 2] == 0


def test_newton_solves_a_separable_quadratic_in_one_sweep() -> None:
    centre, curvature = torch.tensor([0.3, -0.2, 0.7]).double(), torch.tensor([2.0, 5.0, 0.5]).double()
    x, h = torch.zeros(1, 3).double(), torch.full((1, 3), 1e-3).double()

    def value(x: Tensor) -> Tensor:
        return (curvature * (x - centre) ** 2 / 2).sum(-1, keepdim=True)

    step = torch.diag(h[0])
    x = x - newton(*differences(value(x), value(x + step).T, value(x - step).T, h, h))
    torch.testing.assert_close(x[0], centre, atol=1e-6, rtol=0)
    assert newton(torch.ones(2), torch.tensor([-3.0, 0.0])).tolist() == [1, 10]


def test_coordinates_are_drawn_by_their_chances_and_follow_the_changes() -> None:
    rng = random(20000)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(20000, -1)
    share = torch.bincount(pick(weights, 1, rng)[:, 0], minlength=4) / 20000
    torch.testing.assert_close(share, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015, rtol=0)
    assert (pick(weights, 4, rng).sort(1).values == torch.arange(4)).all()
    moves = torch.zeros(2, 1, 16, 16)
    assert (importance(moves) == 1).all()
    moves[0, 0, 4, 5] = -0.5
    chances = importance(moves)[0].reshape(16, 16)
    assert chances[4, 5] == chances[3, 4] == 0.5
    assert chances[12, 12] == pytest.approx(0.01)


def test_weights_are_bisected_and_raised() -> None:
    weights = Weights(1.0, torch.zeros(2))
    every = torch.ones(2, dtype=torch.bool)
    for violated in ([True, False], [False, False], [True, True]):
        weights.close(every, torch.tensor(violated))
    assert weights.value.tolist() == [0.625, 55.0]  # 1, .5, .75, .625 and 1, 10, 100, 55


def test_sums_and_smooth_images() -> None:
    parts = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(total(parts), parts.sum(1))
    whole = smooth_noise((1, 16, 16), 0.25, 200, random(1), torch.zeros(1))[0, :, 0]
    waves = torch.fft.rfft2(torch.cat([torch.cat([whole, whole.flip(2)], 2)] * 2, 1)).abs().square().sum(0)
    assert waves[:, 8:].sum() < 0.02 * waves.sum()
    alone = smooth_noise((1, 16, 16), 0.25, 200, random(4), torch.zeros(1))[:1, :, 0]
    assert torch.equal(alone[0], whole)


@near
def test_queries_are_the_rows_really_seen(attack: Any, norm: str) -> None:
    inner, x0, _ = linear(norm)
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(torch.unique(x, dim=0)))
        return inner(x)

    found = closest(attack, model, x0[:1], torch.zeros(1, dtype=torch.long), (Linf if norm == "linf" else L2)(0.1))
    repeats = int(found.queries.sum()) - sum(seen)
    assert 0 <= repeats <= 0.1 * sum(seen)  # an attack may ask about a point again


@pytest.mark.parametrize("attack", [NES(queries=500), SPSA(queries=500), ZOO(queries=400), Autozoom(queries=100)])
def test_failure_returns_the_input_bit_by_bit(attack: Any) -> None:
    x0 = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    y, threat = torch.zeros(3, dtype=torch.long), L2(0.1)
    found = run(attack, lambda x: torch.tensor([1.0, 0.0]).expand(len(x), -1), x0, y, threat)
    assert torch.equal(found.x, x0)
    assert not found.refuted.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [NES(queries=3000), SPSA(queries=3000, step=0.1)], ids=["NES", "SPSA"])
def test_margins_fall_as_far_as_a_plane_allows(attack: Any, norm: str) -> None:
    w = torch.randn(SIZE, generator=torch.Generator().manual_seed(4))
    x0 = torch.full((3, SIZE), 0.5)
    threat = (Linf if norm == "linf" else L2)(0.2)
    found = run(attack, two(lambda x: x @ w + 9), x0, torch.zeros(3, dtype=torch.long), threat)
    fall = (found.clean_margin - found.margin) / (0.2 * torch.linalg.vector_norm(w, DUAL[norm]))
    assert fall.min() > 0.95
    assert fall.max() < 1.0001


def test_a_decoder_is_trained_stored_and_searched_with(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 7, (256, 2), generator=generator)
    images = torch.zeros(256, 1, 9, 9)
    for image, (down, across) in zip(images, corners):
        image[0, down : down + 3, across : across + 3] = 1.0
    file = tmp_path / "decoder.safetensors"
    error = codec.train(images, file, epochs=15)
    assert error < 0.5 * float(images.var())
    attack = Autozoom(space="autoencoder", decoder=str(file), queries=800)
    x0, y = images[:3].clamp(0.1, 0.9), torch.zeros(3, dtype=torch.long)
    model = two(lambda x: 30 - x.sum(1))
    found = closest(attack, model, x0, y, L2(1.0))
    straight = (30 - x0.flatten(1).sum(1)) / 9
    assert found.refuted.all()
    assert (found.distance < 3 * straight).all()
    for bad, words in (("", "needs a decoder"), (str(tmp_path / "none"), "There is no decoder")):
        with pytest.raises(InputError, match=words):
            closest(Autozoom(space="autoencoder", decoder=bad), model, x0, y, L2(1.0))
    with pytest.raises(InputError, match="makes images of shape"):
        closest(attack, model, x0[..., :8], y, L2(1.0))
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="train it again"):
        closest(attack, model, x0, y, L2(1.0))


def test_zoo_grows_its_grid_and_newton_serves_too() -> None:
    x0 = torch.full((2, 1, 8, 8), 0.5)
    model = two(lambda x: x.sum(1) - 30)
    y = torch.zeros(2, dtype=torch.long)
    for attack in (ZOO(side=2, queries=1200, coordinates=8), ZOO(solver="newton", rate=0.5, width=0.01, queries=1200)):
        assert (closest(attack, model, x0, y, L2(1.0)).distance < 1.5 * 2 / 8).all()


def test_labels_hidden_in_any_scores_give_the_same_walk() -> None:
    model, x0, _ = linear("l2")
    y = torch.zeros(len(x0), dtype=torch.long)
    attacks = [Boundary(queries=40), Hopskipjump(queries=130), Surfree(queries=40), GEODA(queries=150, rounds=2)]
    for attack, loud in itertools.product(attacks, (True, False)):
        other = (lambda x: 1e3 * model(x)) if loud else (lambda x: model(x).sign())
        seen, told = (closest(attack, m, x0, y, L2(0.1)) for m in (model, other))
        assert torch.equal(seen.x, told.x)
