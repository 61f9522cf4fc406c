"""Risk over distributions near the data: closed forms, distributions that exist, and when a number is a certificate."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import withstand
from withstand.builtin.digits import digits_split
from withstand.core.errors import InputError
from withstand.hardening.risk import bounds, default_gammas, sharpest, surrogate

D = 5


def samples(n: int = 40) -> Tensor:
    return torch.randn(n, D, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def linear() -> Tensor:
    return torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)


def quadratic() -> tuple[Tensor, Tensor, float]:
    rng = torch.Generator().manual_seed(8)
    a = torch.randn(D, D, dtype=torch.float64, generator=rng)
    a = a + a.T
    return a, torch.randn(D, dtype=torch.float64, generator=rng), float(torch.linalg.matrix_norm(a, 2))


def curved(a: Tensor, b: Tensor, z: Tensor) -> Tensor:
    return (z @ a * z).sum(1) / 2 + z @ b


@pytest.mark.parametrize("gamma", [0.3, 1.0, 7.0])
def test_a_linear_loss_in_closed_form(gamma: float) -> None:
    w, x = linear(), samples()
    found = surrogate(lambda z: z @ w, x, gamma, 0.0)
    square = float(w @ w)
    assert found.below == pytest.approx(float((x @ w).mean()) + square / (4 * gamma))
    assert found.above == pytest.approx(found.below)
    assert found.cost == pytest.approx(square / (4 * gamma**2))
    assert found.loss == pytest.approx(float((x @ w).mean()) + square / (2 * gamma))


def test_the_best_gamma_of_a_linear_loss_gives_its_norm_times_the_root_of_rho() -> None:
    w, x, rho = linear(), samples(), 0.3
    clean = float((x @ w).mean())
    gammas = default_gammas(lambda z: z @ w, x, [rho], None)
    (bound,) = bounds(clean, [surrogate(lambda z: z @ w, x, gamma, 0.0) for gamma in gammas], [rho])
    worst = clean + float(w.norm()) * math.sqrt(rho)
    assert bound.certified == pytest.approx(worst)
    assert bound.reached == pytest.approx(worst)
    assert bound.estimate == pytest.approx(worst)


@pytest.mark.parametrize("factor", [1.02, 1.5, 5.0])
def test_a_quadratic_loss_in_closed_form(factor: float) -> None:
    (a, b, largest), x = quadratic(), samples()
    gamma = factor * largest / 2
    found = surrogate(lambda z: curved(a, b, z), x, gamma, largest, steps=400)
    slope = x @ a + b
    inverse = torch.linalg.inv(2 * gamma * torch.eye(D, dtype=torch.float64) - a)
    phi = float((curved(a, b, x) + (slope @ inverse * slope).sum(1) / 2).mean())
    assert found.above is not None
    assert found.below <= phi + 1e-9
    assert phi <= found.above
    assert found.above == pytest.approx(phi, rel=1e-3)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_walks_that_are_too_short_still_give_bounds(steps: int) -> None:
    (a, b, largest), x = quadratic(), samples()
    gamma = 0.51 * largest
    found = surrogate(lambda z: curved(a, b, z), x, gamma, largest, steps)
    exact = surrogate(lambda z: curved(a, b, z), x, gamma, largest, steps=5000)
    assert found.above is not None
    assert found.below < exact.below - 1e-3
    assert found.above > exact.below


def test_there_is_no_certificate_at_or_below_the_smoothness() -> None:
    (a, b, largest), x = quadratic(), samples()
    loss = lambda z: curved(a, b, z)  # noqa: E731
    assert surrogate(loss, x, largest / 2, largest).above is None
    assert surrogate(loss, x, largest, None).above is None
    tried = [surrogate(loss, x, gamma, largest) for gamma in (0.3 * largest, 0.6 * largest)]
    (bound,) = bounds(0.0, tried, [0.1])
    assert bound.gamma == pytest.approx(0.6 * largest)
    assert bounds(0.0, tried[:1], [0.1])[0].certified is None


def test_phi_falls_with_gamma_to_the_loss_itself() -> None:
    (a, b, largest), x = quadratic(), samples()
    loss = lambda z: curved(a, b, z)  # noqa: E731
    found = [surrogate(loss, x, factor * largest, largest).above for factor in (0.6, 1.0, 3.0, 1e6)]
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]
    assert found[-1] == pytest.approx(float(loss(x).mean()), abs=1e-4)


def test_what_is_reached_is_a_share_of_the_points_moved() -> None:
    w, x = linear(), samples()
    one = surrogate(lambda z: z @ w, x, 1.0, 0.0)
    clean = float((x @ w).mean())
    quarter, all_of_it, more = bounds(clean, [one], [one.cost / 4, one.cost, 2 * one.cost])
    assert quarter.reached == pytest.approx(clean + (one.loss - clean) / 4)
    assert all_of_it.reached == pytest.approx(one.loss)
    assert more.reached == pytest.approx(one.loss)


def test_the_estimate_of_the_largest_eigenvalue_is_that_of_a_quadratic() -> None:
    (a, b, largest), x = quadratic(), samples(3)
    torch.testing.assert_close(
        sharpest(lambda z: curved(a, b, z), x, turns=300), torch.full((3,), largest, dtype=torch.float64)
    )
    assert torch.equal(sharpest(lambda z: z @ b, x), torch.zeros(3, dtype=torch.float64))


def smooth_network() -> nn.Sequential:
    """A digits classifier with ELU, fitted for a moment."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ELU(), nn.Linear(24, 10))
    x, y = digits_split()[0]
    optimiser = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval()


def test_no_distribution_within_rho_has_a_loss_above_the_certificate() -> None:
    model, (x, y) = smooth_network(), digits_split()[1]
    x, y = x[:60], y[:60]
    rhos = [0.003, 0.03, 0.3]
    found = withstand.risk(model, (x, y), rhos)
    assert found.smooth is not None
    assert found.why is None
    assert found.sharpest <= found.smooth
    assert found.n == 60
    model.double()
    rng = torch.Generator().manual_seed(0)
    z = x.double()
    for bound in found.bounds:
        assert bound.certified is not None
        assert found.clean <= bound.reached <= bound.estimate <= bound.certified
        reached = found.clean
        for _ in range(30):
            point = (z + 1e-3 * torch.randn(z.shape, dtype=z.dtype, generator=rng)).requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
            length = torch.rand(60, 1, 1, 1, dtype=z.dtype, generator=rng) * slope
            length = length * (bound.rho / float(length.flatten(1).square().sum(1).mean())) ** 0.5
            with torch.no_grad():
                reached = max(reached, float(F.cross_entropy(model(z + length), y)))
        assert reached > found.clean
        assert reached <= bound.certified


def test_a_certificate_is_tight_where_it_is_asked_at_the_cost_it_reaches() -> None:
    model, (x, y) = smooth_network(), digits_split()[1]
    first = withstand.risk(model, (x[:60], y[:60]), 0.01)
    assert first.smooth is not None
    gamma = 0.51 * first.smooth
    cost = withstand.risk(model, (x[:60], y[:60]), 0.01, gamma=gamma).surrogates[0].cost
    (bound,) = withstand.risk(model, (x[:60], y[:60]), cost, gamma=gamma).bounds
    assert bound.certified is not None
    assert bound.certified == pytest.approx(bound.reached, rel=1e-4)
    assert bound.certified > first.clean


def test_networks_with_kinks_get_an_estimate_and_the_reason() -> None:
    found = withstand.risk("digits-cnn", "digits", [0.01], gamma=[5.0, 20.0], limit=20)
    assert found.smooth is None
    assert found.why is not None
    assert "'relu'" in found.why
    (bound,) = found.bounds
    assert bound.certified is None
    assert bound.gamma is None
    assert found.clean < bound.reached <= bound.estimate
    assert [one.gamma for one in found.surrogates] == [5.0, 20.0]


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = smooth_network()
    whole = withstand.risk(model, "digits", 0.01, gamma=3.0, limit=30)
    monkeypatch.setattr("withstand.auditing.risk.BATCH", 7)
    parts = withstand.risk(model, "digits", 0.01, gamma=3.0, limit=30)
    assert parts.clean == pytest.approx(whole.clean)
    assert parts.bounds[0].estimate == pytest.approx(whole.bounds[0].estimate)


@pytest.mark.parametrize(
    ("rho", "gamma", "words"), [(-1.0, None, "transport cost"), ([], None, "transport cost"), (0.1, 0.0, "gamma must")]
)
def test_bad_input_is_one_sentence(rho, gamma, words: str) -> None:
    with pytest.raises(InputError, match=words):
        withstand.risk("digits-cnn", "digits", rho, gamma=gamma, limit=2)
