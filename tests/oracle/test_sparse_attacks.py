"""Attacks on few pixels and on patches, where the best pixels or the best window are known."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from withstand.attacks.apgd import APGD
from withstand.attacks.fgsm import FGSM
from withstand.attacks.greedy_pixels import GreedyPixels
from withstand.attacks.pgd import PGD
from withstand.attacks.sigma_zero import SigmaZero
from withstand.attacks.sparse_rs import Placed, SparseRS, Swaps
from withstand.core.closest import closest
from withstand.core.patch import Patch
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import Access, run
from withstand.core.sparse import L0
from withstand.core.threat import Threat

SHAPE = (3, 4, 6)
SIZE, NARROW = 16, (0.2, 0.8)
LABEL = torch.zeros(12, dtype=torch.long)


def streams(rows: int) -> RowRandom:
    return RowRandom(row_seeds(0, range(rows), "oracle"))


class Single(nn.Module):
    """Two logits (m, 0), so that the margin of label 0 is m = weights . x + bias, with a bias a row by its mean."""

    def __init__(self, weights: Tensor, bias: float) -> None:
        super().__init__()
        self.weights, self.bias = weights, bias

    def forward(self, x: Tensor) -> Tensor:
        margin = x.flatten(1) @ self.weights.flatten() + self.bias
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def linear(shape: tuple[int, ...] = SHAPE, rows: int = 12) -> tuple[Single, Tensor, Tensor]:
    """A model with every margin between 1 and about 5, inputs (some at the edges) and the gain of each pixel [B, P]."""
    generator = torch.Generator().manual_seed(len(shape))
    x0 = torch.rand(rows, *shape, generator=generator)
    x0 = torch.where(x0 < 0.2, 0.0, torch.where(x0 > 0.8, 1.0, x0))
    weights = torch.randn(shape, generator=generator)
    values = x0.flatten(1) @ weights.flatten()
    gain = weights * (x0 - (weights < 0).to(x0))
    return Single(weights, float(1 - values.min())), x0, (gain.sum(1) if len(shape) == 3 else gain).flatten(1)


def fewest(model: Single, x0: Tensor, gain: Tensor) -> Tensor:
    """How many of the best pixels it takes to bring each margin to 0."""
    reached = gain.sort(1, descending=True).values.cumsum(1)
    return (reached < model(x0)[:, :1]).sum(1) + 1


@pytest.mark.parametrize("shape", [SHAPE, (7, 9), (40,)], ids=str)
@pytest.mark.parametrize("attack", [GreedyPixels(), SigmaZero(steps=300)], ids=lambda a: type(a).__name__)
def test_the_fewest_pixels_of_a_linear_model_are_its_best_ones(attack: Any, shape: tuple[int, ...]) -> None:
    model, x0, gain = linear(shape)
    truth = fewest(model, x0, gain)
    assert len(truth.unique()) >= 3
    found = closest(attack, model, x0, LABEL, L0(3))
    assert (found.distance >= truth).all()
    if isinstance(attack, GreedyPixels):
        assert torch.equal(found.distance.long(), truth)
    assert (found.distance <= 1.05 * truth + 1).all()


def test_random_search_finds_the_best_two_pixels_of_a_linear_model() -> None:
    model, x0, gain = linear((20,), rows=6)
    best = gain.sort(1, descending=True).values[:, :2].sum(1)
    steep = Single(model.weights, model.bias + 100)
    found = run(SparseRS(queries=600), steep, x0, LABEL[:6], L0(2))
    torch.testing.assert_close(found.clean_margin - found.margin, best, rtol=1e-4, atol=1e-4)
    assert (found.gradients == 0).all()


@pytest.mark.parametrize(
    ("attack", "least"),
    [(FGSM(), 0.999), (PGD(), 0.8), (APGD(), 0.99), (SparseRS(queries=300), 0.5)],
    ids=lambda a: type(a).__name__,
)
def test_the_best_window_of_a_linear_model_is_found(attack: Any, least: float) -> None:
    model, x0, gain = linear()
    maps = gain.reshape(-1, 4, 6)
    best = torch.stack(
        [maps[:, i : i + 2, j : j + 3].sum((1, 2)) for i, j in itertools.product(range(3), range(4))]
    ).amax(0)
    steep = Single(model.weights, model.bias + 100)
    found = run(attack, steep, x0, LABEL, Patch(window=(2, 3)))
    share = (found.clean_margin - found.margin) / best
    assert (share < 1 + 1e-4).all()
    assert share.min() > least


def hidden(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        last = nn.Linear(12, 3)
        model = nn.Sequential(nn.Linear(SIZE, 12), nn.ReLU(), last).requires_grad_(False)
        x0 = NARROW[0] + (NARROW[1] - NARROW[0]) * torch.rand(30, SIZE)
    last.bias -= model(x0).mean(0)  # all classes occur
    return model, x0, model(x0).argmax(1)


def corners(model: nn.Module, x0: Tensor, y: Tensor) -> Tensor:
    """The fewest coordinates, up to 2, that break the label at the domain's edges or its middle, by trying all."""
    values = torch.linspace(*NARROW, 3)
    truth = torch.full((len(x0),), torch.inf)
    for count in (2, 1):
        for places in itertools.combinations(range(SIZE), count):
            for chosen in itertools.product(values, repeat=count):
                x = x0.clone()
                x[:, list(places)] = torch.tensor(chosen)
                truth = torch.where(model(x).argmax(1) != y, float(count), truth)
    return truth


@pytest.mark.parametrize(
    "attack", [GreedyPixels(), SigmaZero(steps=300), SparseRS(queries=100)], ids=lambda a: type(a).__name__
)
def test_few_coordinates_of_a_hidden_layer_against_all_choices(attack: Any) -> None:
    model, x0, y = hidden(1)
    truth = corners(model, x0, y)
    assert ((truth == 1).sum() > 3) & ((truth == 2).sum() > 3)
    found = closest(attack, model, x0, y, L0(2, NARROW))
    few = truth <= 2
    assert (found.distance[few] <= truth[few]).double().mean() > 0.95
    assert (found.distance[few] <= truth[few] + 1).all()
    assert (found.distance[truth > 2] >= 2).all()


@pytest.mark.parametrize("shape", [SHAPE, (20,)], ids=str)
def test_swaps_cover_every_pixel_and_keep_their_number(shape: tuple[int, ...]) -> None:
    x0 = torch.rand(3, *shape).round()
    threat = L0(2)
    moves = Swaps(x0, threat, streams(3))
    state, seen = moves.start(), torch.zeros_like(moves.maps[:, 0], dtype=torch.bool)
    for query in range(400):
        x = moves.image(state)
        assert (threat.distance(x0, x) == 2).all()  # no pixel goes to the value it has
        seen |= (threat.maps(x) != moves.maps).any(1)
        state = moves.change(state, 0.3, query + 1, query / 400)
    assert seen.all()
    every = Swaps(x0 / 2 + 0.2, L0(1000), streams(3))
    start = every.start()
    assert (every.image(every.change(start, 0.3, 1, 0.0)) != every.image(start)).any()


def test_patches_cover_every_place_the_last_included() -> None:
    x0 = torch.full((2, *SHAPE), 0.5)
    threat = Patch(window=(2, 4))
    moves = Placed(x0, threat, streams(2))
    state, seen = moves.start(), set()
    for query in range(600):
        x = moves.image(state)
        assert threat.contains(x0, x).all()
        assert ((x != x0).flatten(1).sum(1) == 3 * 2 * 4).all()
        seen |= {tuple(place) for place in state[0].tolist()}
        state = moves.change(state, 0.3, query + 1, query / 600)
    assert seen == set(itertools.product(range(3), range(3)))


def test_a_block_changes_part_of_a_patch_and_later_one_channel() -> None:
    x0 = torch.full((40, *SHAPE), 0.5)
    moves = Placed(x0, Patch(window=(4, 4)), streams(40))
    start = moves.start()
    for late, most in ((0.1, 3), (0.9, 1)):
        place, up = moves.change(start, 0.25, 1, late)
        changed = up != start[1]
        assert torch.equal(place, start[0])
        assert changed.any()
        assert changed.any(1).flatten(1).sum(1).max() <= 4
        assert changed.flatten(2).any(2).sum(1).max() <= most
    moved = moves.change(start, 0.25, 4, 0.0)
    assert torch.equal(moved[1], start[1])
    assert (moved[0] != start[0]).any()


@pytest.mark.parametrize("threat", [L0(2), Patch(window=(2, 2))], ids=str)
def test_random_search_never_asks_for_a_gradient(threat: Threat) -> None:
    model, x0, _ = linear()

    def scores(x: Tensor) -> Tensor:
        assert not x.requires_grad
        return model(x)

    found = run(SparseRS(queries=50), scores, x0, LABEL, threat, access=Access.SCORES)
    assert (found.gradients == 0).all()
    assert (found.queries[~found.refuted] == 51).all()


def test_an_rgb_pixel_counts_once() -> None:
    """Two pixels whose three channels matter: a count of numbers would say six."""
    weights = torch.zeros(SHAPE)
    weights[:, 1, 2], weights[:, 3, 5] = 1.0, 0.9
    model, x0 = Single(weights, -2.9), torch.ones(4, *SHAPE)
    for attack in (GreedyPixels(), SigmaZero(steps=200)):
        found = closest(attack, model, x0, LABEL[:4], L0(1))
        assert (found.distance == 1).all()
    assert run(PGD(), model, x0, LABEL[:4], L0(1)).refuted.all()
