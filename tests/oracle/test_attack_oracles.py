"""Attacks on linear models, whose optimum is known, and what their parts must do."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from withstand.attacks.apgd import APGD
from withstand.attacks.fgsm import FGSM
from withstand.attacks.noise import Noise
from withstand.attacks.parts.walks import Halving, sparse_step
from withstand.attacks.pgd import PGD
from withstand.attacks.square import Edges, Square, Window, as_images, patch_size, pyramids
from withstand.core.balls import L1, L2, Linf
from withstand.core.evidence import Told
from withstand.core.property import Argmax
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import Access, Found, run
from withstand.core.threat import Threat

THREATS = [Linf(0.2), L2(0.4), L1(0.7)]
STRONG = [FGSM(), PGD(steps=100, step=0.05), APGD(steps=100)]
named = pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.norm)
DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}


class Single(nn.Module):
    """Two logits (m, 0), so that the margin of label 0 is m = weights . x + bias."""

    def __init__(self, weights: Tensor, bias: float) -> None:
        super().__init__()
        self.weights, self.bias = weights, bias

    def forward(self, x: Tensor) -> Tensor:
        margin = x.flatten(1) @ self.weights + self.bias
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def start(rows: int, size: int, interior: bool) -> Tensor:
    x0 = torch.rand(rows, size, generator=torch.Generator().manual_seed(size))
    return 0.45 + 0.1 * x0 if interior else x0


def weights(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def least_linear(w: np.ndarray, x0: np.ndarray, threat: Threat) -> float:
    """The least w . x over threat and domain, by solvers that know nothing of attacks."""
    size = len(w)
    bounds = [(max(0, a - threat.radius), min(1, a + threat.radius)) for a in x0]
    if threat.norm == "linf":
        return linprog(w, bounds=bounds).fun
    if threat.norm == "l1":
        bounds = [(0, 1 - a) for a in x0] + [(0, a) for a in x0]
        budget = {"A_ub": np.ones((1, 2 * size)), "b_ub": [threat.radius]}
        return linprog(np.concatenate([w, -w]), bounds=bounds, **budget).fun + w @ x0
    inside = {"type": "ineq", "fun": lambda x: threat.radius**2 - ((x - x0) ** 2).sum()}
    found = minimize(lambda x: w @ x, x0, jac=lambda x: w, bounds=bounds, constraints=inside, options={"maxiter": 500})
    return found.fun


def fall(found: Found, truth: Tensor, tolerance: float = 1e-3) -> Tensor:
    """The share of the possible fall of the margin that was reached; no attack may reach more than all of it."""
    share = (found.clean_margin - found.margin) / (found.clean_margin - truth)
    assert (share < 1 + tolerance).all()
    return share


@named
@pytest.mark.parametrize("attack", STRONG, ids=lambda a: type(a).__name__)
def test_linear_margin_falls_by_radius_times_dual_norm(attack: Any, threat: Threat) -> None:
    size = 12
    w, x0 = weights(size), start(6, size, interior=True)
    threat = threat.at(threat.radius / 2)  # the domain's edges stay out of reach
    model = Single(w, float(5 - (x0 @ w).min()))
    found = run(attack, model, x0, torch.zeros(6, dtype=torch.long), threat)
    drop = threat.radius * torch.linalg.vector_norm(w, DUAL[threat.norm])
    assert fall(found, found.clean_margin - drop).min() > 0.99


def blocked(threat: Threat) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A linear model, inputs near the domain's edges, their targets and the true least margins."""
    w, x0 = weights(9), start(5, 9, interior=False)
    truth = torch.tensor([least_linear(w.double().numpy(), row.double().numpy(), threat) for row in x0])
    bias = float(1 - truth.min())
    return Single(w, bias), x0, torch.zeros(5, dtype=torch.long), truth + bias


@named
@pytest.mark.parametrize("attack", STRONG, ids=lambda a: type(a).__name__)
def test_linear_optimum_with_the_domain_in_the_way(attack: Any, threat: Threat) -> None:
    model, x0, y, truth = blocked(threat)
    assert fall(run(attack, model, x0, y, threat), truth).min() > 0.99


@named
@pytest.mark.parametrize("attack", [Square(queries=400), PGD(), APGD(steps=40)], ids=lambda a: type(a).__name__)
def test_linear_optimum_from_scores_alone(attack: Any, threat: Threat) -> None:
    model, x0, y, truth = blocked(threat)
    assert fall(run(attack, model, x0, y, threat, access=Access.SCORES, probes=10), truth).min() > 0.75


@named
@pytest.mark.parametrize("attack", [PGD(), APGD(), FGSM()], ids=lambda a: type(a).__name__)
def test_minimal_distance_to_a_plane(attack: Any, threat: Threat) -> None:
    w, x0 = weights(12), start(5, 12, interior=True)
    distances = 0.2 * torch.linspace(0.2, 1, 5)
    offsets = distances * torch.linalg.vector_norm(w, DUAL[threat.norm]) - x0 @ w
    for row, distance in enumerate(distances.tolist()):
        one, model = x0[row : row + 1], Single(w, float(offsets[row]))
        for factor, refuted in ((1.01, True), (0.99, False)):
            ball = type(threat)(distance * factor, (-100.0, 100.0))
            assert bool(run(attack, model, one, torch.zeros(1, dtype=torch.long), ball).refuted) is refuted


def test_noise_stays_far_from_the_optimum_and_more_draws_never_hurt() -> None:
    w, x0 = weights(30), start(6, 30, interior=True)
    y, model = torch.zeros(6, dtype=torch.long), Single(w, 50.0)
    few, many = (run(Noise(draws=n), model, x0, y, Linf(0.1)) for n in (5, 200))
    drop = 0.1 * w.abs().sum()
    assert (fall(many, many.clean_margin - drop) < 0.9).all()
    assert many.margin.mean() < few.margin.mean()


def test_margin_and_dlr_survive_logits_that_blind_cross_entropy() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5)).requires_grad_(False)
        x0 = torch.rand(24, 20)
    y = net(x0).argmax(1)
    plain = run(APGD(steps=30), net, x0, y, Linf(0.1))
    loud = run(APGD(steps=30), lambda x: 1e5 * net(x), x0, y, Linf(0.1))
    assert torch.equal(plain.refuted, loud.refuted)
    blind = run(FGSM(loss="ce"), lambda x: 1e5 * net(x), x0, y, Linf(0.1))
    assert blind.zero_gradients.sum() > 5
    a, b = (run(PGD(loss="dlr"), lambda x, k=k: k * net(x) + k, x0, y, Linf(0.1)) for k in (1, 4))
    assert torch.equal(a.refuted, b.refuted)


def test_dlr_does_not_change_with_scale_and_shift() -> None:
    z = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 7
    dlr = Argmax().loss("dlr", z, y)
    torch.testing.assert_close(Argmax().loss("dlr", 3.7 * z - 2, y), dlr)
    two = Argmax().loss("dlr", z[:, :2], y % 2)
    assert two.unique().numel() == 50  # with two classes the ratio would be a constant


def test_step_length_only_halves_and_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(101, 6, generator=generator)
    losses[:, 0] = torch.linspace(1, 0, 101)  # always better: never halves
    losses[:, 1] = 1.0  # never better: halves at every checkpoint
    seen = []
    schedule, best = Halving.begin(100, losses[0]), losses[0]
    checkpoints = 0
    for loss in losses[1:]:
        best = torch.minimum(best, loss)
        before = schedule.length
        halved = schedule.see(loss, best)
        checkpoints += halved is not None
        ratio = schedule.length / before
        assert ((ratio == 1) | (ratio == 0.5)).all()
        assert halved is not None or (ratio == 1).all()
        seen.append(schedule.length)
    # after 22, 41, 57, 70, 80, 87, 93 and 99 steps: windows of 22, 19, 16, 13, 10, 7, 6, 6
    assert checkpoints == 8
    assert seen[-1][0] == 2
    assert seen[-1][1] == 2 / 2**8
    alone = Halving.begin(100, losses[0, 3:4])
    for i, loss in enumerate(losses[1:]):
        alone.see(loss[3:4], losses[: i + 2, 3:4].amin(0))
        assert torch.equal(alone.length, seen[i][3:4])


def test_sparse_steps_move_the_largest_coordinates_alike() -> None:
    grad = torch.tensor([[3.0, -1.0, 0.5, -4.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    step = sparse_step(grad, torch.tensor([0.5, 0.5, 0.01]))
    assert step.tolist() == [[0.5, 0, 0, -0.5], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("shape", [(3, 7, 9), (1, 5, 5), (11,), (4, 6)])
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=lambda t: t.norm)
def test_square_covers_every_pixel_with_positions_of_its_own_a_row(shape: tuple[int, ...], threat: Threat) -> None:
    x0 = torch.full((4, *shape), 0.5)
    rng = RowRandom(row_seeds(0, range(4), "coverage"))
    queries = 1000 if threat.norm == "linf" else 400  # there half of the new signs are those of before
    search = Square(queries=queries).search(x0, threat, rng)
    previous = next(search).x
    touched = torch.zeros_like(x0, dtype=torch.bool)
    places = set()
    for query in range(1, queries):
        margin = torch.full((4,), float(-query))  # always better
        new = search.send(Told(margin, margin, None, None, torch.ones(4, dtype=torch.bool))).x
        changed = new != previous
        touched |= changed
        if query > 60:
            places |= {tuple(row.flatten().nonzero().flatten().tolist()) for row in changed}
        previous = new
    assert touched.all()
    assert len(places) > 8


def test_patches_reach_the_last_row_and_column() -> None:
    images = torch.zeros(2000, 1, 4, 5)
    places = RowRandom(row_seeds(0, range(2000), "patches")).uniform((2,), torch.float64)
    window = Window.at(places, (2, 3), images)
    share = window.mask(images).float().mean((0, 1))
    assert (window.mask(images).sum((1, 2, 3)) == 6).all()
    assert share.min() > 0.05
    torch.testing.assert_close(share, share.flip(0, 1), atol=0.06, rtol=0)  # no side is preferred


def test_patch_sizes_and_pictures() -> None:
    assert patch_size(0.8, 28, 28) == (25, 25)
    assert patch_size(0.25, 1, 100) == (1, 25)
    assert patch_size(1e-9, 28, 28, least=3) == (3, 3)
    assert patch_size(0.5, 4, 100) == (4, 50)
    assert as_images(torch.zeros(2, 7)).shape == (2, 1, 1, 7)
    assert as_images(torch.zeros(2, 3, 2, 4, 5)).shape == (2, 6, 4, 5)
    for height, width, power in itertools.product((1, 2, 3, 6), (1, 2, 3, 6), (1, 2)):
        pictures = pyramids(height, width, power)
        assert pictures.shape[1:] == (height, width)
        norm = torch.linalg.vector_norm(pictures.flatten(1), power, dim=1)
        torch.testing.assert_close(norm, torch.ones(len(pictures)))
        if height * width > 1:
            assert (pictures.flatten(1).amin(1) < 0).all()
            assert (pictures.flatten(1).amax(1) > 0).all()


def test_larger_radius_and_more_restarts_never_hurt() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)).requires_grad_(False)
        x0 = torch.rand(40, 20)
    y = net(x0).argmax(1)
    counts = [int(run(PGD(), net, x0, y, Linf(r)).refuted.sum()) for r in (0.02, 0.05, 0.1, 0.2)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_square_that_would_change_nothing_takes_the_other_edge() -> None:
    moves = Edges(torch.full((50, 1, 6, 6), 0.5), Linf(0.1), RowRandom(row_seeds(0, range(50), "edges")))
    state = moves.start()
    for share in (0.8, 0.2, 0.02, 0.02, 0.02):
        new = moves.change(state, share)
        assert (new != state).flatten(1).any(1).all()
        state = new


def test_a_square_s_patches_shrink_as_far_in_few_queries_as_in_many() -> None:
    sizes = {}
    for queries, stretched in ((200, True), (2000, True), (200, False)):
        search = Square(queries=queries, stretched=stretched).search(
            torch.full((1, 20, 20), 0.5), Linf(0.1), RowRandom(row_seeds(0, [0], "sizes"))
        )
        before = next(search).x
        for query in range(1, queries):
            margin = torch.full((1,), float(-query))
            new = search.send(Told(margin, margin, None, None, torch.ones(1, dtype=torch.bool))).x
            changed, before = int((new != before).sum()), new
        sizes[queries, stretched] = changed
    assert sizes[200, True] == sizes[2000, True] == 1 < sizes[200, False]
