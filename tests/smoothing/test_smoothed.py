"""Randomised smoothing on models whose smoothed form is known in closed form."""

import itertools
import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.smoothing.smoothed import Smoothing
from withstand.smoothing.votes import count_votes, noisy


class Halves(nn.Module):
    """Class 1 where w.x + b > 0: smoothed by Gaussian noise it is itself, and its radius is |w.x + b| / ||w||."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = torch.randn(dimensions, generator=generator)
        self.b = 0.3

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.w + self.b
        return torch.stack([-score, score], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        return (x.double() @ self.w.double() + self.b).abs() / self.w.double().norm()


def always_one(x: Tensor) -> Tensor:
    return torch.tensor([0.0, 1.0, 0.5]).expand(len(x), 3)


def points(count: int, dimensions: int = 8) -> Tensor:
    return 0.4 * torch.randn(count, dimensions, generator=torch.Generator().manual_seed(7))


def test_a_linear_classifier_is_its_own_smoothed_form_and_radii_do_not_exceed_the_distance_of_its_plane() -> None:
    model, x, alpha = Halves(8), points(1000), 0.01
    told = Smoothing(sigma=0.5, draws=2000, alpha=alpha).certify(model, x, range(1000))
    sure = told.answer >= 0
    assert float(sure.double().mean()) > 0.85
    wrong = (told.answer != model(x).argmax(1)) & sure
    too_large = told.radius > model.distance(x)
    failures = int((wrong | too_large).sum())
    assert failures <= 10 + 3 * math.sqrt(10)  # at most alpha of 1,000 are expected
    assert failures > 0  # and the bound is tight enough to fail sometimes


def test_with_many_draws_the_radius_comes_near_the_distance() -> None:
    model, x = Halves(8), points(6)
    far = model.distance(x)
    few, many = (Smoothing(sigma=0.5, draws=n).certify(model, x, range(6)).radius for n in (1000, 100_000))
    assert bool((many > few).all())
    near = far < 0.8
    assert bool(near.any())
    assert bool((many[near] > far[near] - 0.03).all())
    assert bool((many <= far + 1e-9).all())


@pytest.mark.parametrize(("draws", "cap"), [(1000, 2.463), (10_000, 3.199), (100_000, 3.8115)])
def test_a_constant_classifier_reaches_the_cap_exactly(draws: int, cap: float) -> None:
    smoothing = Smoothing(sigma=0.25, draws=draws)
    told = smoothing.certify(always_one, torch.zeros(1, 4), [0])
    assert told.answer.tolist() == [1]
    assert told.counts.tolist() == [[0, draws, 0]]
    assert float(told.radius) == smoothing.cap
    assert smoothing.cap == pytest.approx(0.25 * cap, rel=2e-4)
    assert smoothing.cap == pytest.approx(0.25 * NormalDist().inv_cdf(0.001 ** (1 / draws)), rel=1e-9)


def test_half_of_the_votes_abstain() -> None:
    def even(x: Tensor) -> Tensor:
        side = torch.arange(len(x)) % 2
        return torch.stack([side, 1 - side], 1).float()

    told = Smoothing(sigma=1.0, draws=1000).certify(even, torch.zeros(1, 4), [0])
    assert told.counts.tolist() == [[500, 500]]
    assert (told.answer.tolist(), told.radius.tolist()) == ([-1], [0.0])
    assert float(told.bound) < 0.5
    assert Smoothing(sigma=1.0, draws=1000).predict(even, torch.zeros(1, 4), [0]).answer.tolist() == [-1]


def test_a_guess_that_the_fresh_draws_do_not_bear_out_abstains() -> None:
    asked = []

    def turncoat(x: Tensor) -> Tensor:
        asked.append(len(x))
        return torch.tensor([1.0, 0.0] if sum(asked) <= 100 else [0.0, 1.0]).expand(len(x), 2)

    told = Smoothing(sigma=1.0, draws=1000, first_draws=100).certify(turncoat, torch.zeros(1, 4), [0])
    assert (told.guess.tolist(), told.answer.tolist()) == ([0], [-1])
    assert (told.bound.tolist(), told.counts.tolist()) == ([0.0], [[0, 1000]])


def test_a_smaller_chance_of_error_gives_smaller_radii() -> None:
    model, x = Halves(8), points(20)
    radii = [Smoothing(sigma=0.5, draws=500, alpha=a).certify(model, x, range(20)).radius for a in (0.1, 1e-3, 1e-6)]
    for larger, smaller in itertools.pairwise(radii):
        assert bool((smaller <= larger).all())
        assert bool((smaller < larger)[larger > 0].all())


def test_predictions_are_those_of_the_smoothed_model_but_for_few() -> None:
    model, x = Halves(8), points(500)
    told = Smoothing(sigma=0.5, draws=200, alpha=0.01).predict(model, x, range(500))
    sure = told.answer >= 0
    assert 0.6 < float(sure.double().mean()) < 1.0  # near the plane it abstains
    assert int((told.answer != model(x).argmax(1))[sure].sum()) <= 5 + 3 * math.sqrt(5)
    assert bool((told.p_value[sure] <= 0.01).all())
    assert bool((told.p_value[~sure] > 0.01).all())


@pytest.mark.parametrize("batch", [1, 37, 100, 5000])
def test_counts_depend_on_the_row_alone(batch: int) -> None:
    model, x = Halves(8), points(5)
    seeds = [3, 4, 5, 6, 7]
    counts = count_votes(model, x, 0.5, 333, seeds)
    assert counts.sum(1).tolist() == [333] * 5
    assert torch.equal(count_votes(model, x, 0.5, 333, seeds, batch), counts)
    order = torch.tensor([4, 0, 2])
    moved = count_votes(model, x[order], 0.5, 333, [seeds[i] for i in order.tolist()], batch)
    assert torch.equal(moved, counts[order])


def test_the_first_draws_and_the_others_are_different_noise() -> None:
    seen = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return always_one(x)

    Smoothing(sigma=1.0, draws=50, first_draws=50, alpha=0.1).certify(watch, torch.zeros(2, 3), [0, 1])
    rows = torch.cat(seen).flatten(1)
    assert len(rows) == len(rows.unique(dim=0)) == 200


def test_noise_has_the_spread_that_is_asked_for() -> None:
    x = torch.full((3, 5), 2.0)
    copies = torch.cat(list(noisy(x, 0.3, 20_001, seed=11)))
    assert copies.shape == (20_001, 3, 5)
    off = (copies - x).flatten(1)
    assert off.mean().abs() < 5 * 0.3 / math.sqrt(off.numel())
    assert off.std().item() == pytest.approx(0.3, rel=0.01)
    covariance = off.T.cov() / 0.09
    assert (covariance - torch.eye(15)).abs().max() < 0.05


def test_large_inputs_come_in_small_blocks() -> None:
    sizes = [len(block) for block in noisy(torch.zeros(3, 700, 700), 0.1, 7, seed=0)]
    assert sizes == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"sigma": 0.0}, "Noise of sigma 0 smooths nothing"),
        ({"sigma": -1.0}, "Noise of sigma -1 smooths nothing"),
        ({"sigma": math.nan}, "Noise of sigma nan smooths nothing"),
        ({"sigma": math.inf}, "Noise of sigma inf smooths nothing"),
        ({"alpha": 0.0}, "alpha, is 0; give one between 0 and 1"),
        ({"alpha": 1.0}, "alpha, is 1; give one between 0 and 1"),
        ({"draws": 0}, "n is 0"),
        ({"first_draws": 0}, "n0 is 0"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Smoothing(**{"sigma": 0.5, **numbers})  # type: ignore[arg-type]


def test_too_few_draws_to_certify_anything_are_refused() -> None:
    assert Smoothing(sigma=1.0, draws=10).cap > 0
    with pytest.raises(InputError, match="give n=10 or more"):
        _ = Smoothing(sigma=1.0, draws=9).cap


def test_a_model_that_answers_nan_to_noise_is_refused() -> None:
    def roots(x: Tensor) -> Tensor:
        return x.sqrt()

    with pytest.raises(InputError, match="answers NaN to inputs with noise"):
        count_votes(roots, torch.zeros(1, 3), 0.5, 100, [0])
