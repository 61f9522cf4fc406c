"""L-BFGS, BIM, MI-FGSM, Carlini and Wagner, elastic net and saliency maps where the answer is known."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

import math
from collections.abc import Callable, Generator
from typing import Any

import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from test_minimal_norm import DOMAINS, NORMS, Planes, ratios, starts
from test_one_hidden_layer import networks
from torch import Tensor

from withstand.attacks import lbfgs
from withstand.attacks.bim import BIM
from withstand.attacks.cw import CW
from withstand.attacks.ead import EAD
from withstand.attacks.jsma import JSMA
from withstand.attacks.lbfgs import LBFGS
from withstand.attacks.mifgsm import MIFGSM
from withstand.attacks.parts.lbfgs import Level, Trial, minimise
from withstand.attacks.parts.squash import Squash
from withstand.core.balls import L1, L2, Linf
from withstand.core.closest import closest
from withstand.core.evidence import Told
from withstand.core.property import NotClass
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import run
from withstand.core.sparse import L0
from withstand.core.threat import Threat

MINIMAL = [(LBFGS(), "l2"), (LBFGS(loss="margin"), "l2"), (CW(), "l2"), (CW(), "linf"), (EAD(), "l1")]
SPARSE = [CW(), JSMA(most=1.0)]
each = pytest.mark.parametrize(
    ("attack", "norm"), MINIMAL, ids=lambda part: part if isinstance(part, str) else repr(part)
)
domains = pytest.mark.parametrize(
    "domain",
    [DOMAINS[0], pytest.param(DOMAINS[1], marks=pytest.mark.slow), DOMAINS[2]],
    ids=["unit", "centred", "endless"],
)
Function = Callable[[Tensor], Tensor]


def label(rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.long)


def line(weights: Tensor, bias: float) -> Function:
    """Two logits (m, 0) with the margin m = weights . x + bias."""

    def model(x: Tensor) -> Tensor:
        margin = x.flatten(1) @ weights.to(x) + bias
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    return model


def driven(function: Function, start: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The minimum that `minimise` finds of a function from [B, d] to [B], and how often each row was evaluated."""
    walk, count = minimise(start, **options), torch.zeros(len(start))
    trial = next(walk)
    while True:
        count += trial.rows
        x = trial.x.detach().requires_grad_()
        value = function(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
        try:
            trial = walk.send(Level(value.detach(), slope, torch.ones(len(x), dtype=torch.bool)))
        except StopIteration as end:
            return end.value, count


def valley(x: Tensor) -> Tensor:
    """Rosenbrock's function."""
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (-0.5, 0.8), (0.0, 0.6)])
def test_rows_of_lbfgs_reach_the_minimum_alone_and_together(low: float, high: float) -> None:
    start = torch.rand(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together, count = driven(valley, start, steps=300, low=low, high=high)
    assert ((together >= low) & (together <= high)).all()
    assert len(count.unique()) > 1
    bounds = [(max(low, -1e9), min(high, 1e9))] * 8
    for i, row in enumerate(start):
        alone, _ = driven(valley, row[None], steps=300, low=low, high=high)
        assert torch.equal(alone[0], together[i])
        best = scipy_minimize(
            lambda v: float(valley(torch.tensor(v)[None])), row.clamp(low, high), method="L-BFGS-B", bounds=bounds
        )
        assert float(valley(alone)) <= best.fun + 1e-4


def test_lbfgs_survives_values_that_are_no_numbers() -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.5, torch.nan, ((x - 1) ** 2).sum(1))

    x, count = driven(broken, torch.zeros(2, 3), steps=100)
    assert (x[:, 0] <= 0.5).all()
    assert (count < 100).all()
    start = torch.ones(1, 3)
    assert torch.equal(driven(broken, start, steps=100)[0], start)


def test_the_slope_of_the_lbfgs_objective_is_that_of_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    x0 = starts(3, 6, (0.0, 1.0)) * 0.6 + 0.2
    model, h = Planes(x0, 4, seed=6), 1e-5
    place = x0 + 0.05
    seen: list[Level] = []

    def probe(start: Tensor, *_: Any) -> Generator[Trial, Level, Tensor]:
        rows = torch.ones(len(start), dtype=torch.bool)
        for i in range(-1, x0.shape[1]):
            for sign in (1, -1):
                x = place.clone()
                if i >= 0:
                    x[:, i] += sign * h
                seen.append((yield Trial(x, rows)))
        return start

    monkeypatch.setattr(lbfgs, "minimise", probe)
    for loss in ("ce", "margin"):
        for aim in (None, NotClass(2)):
            seen.clear()
            run(LBFGS(searches=1, loss=loss), model, x0, label(3), L2(1e-9), aim)
            values = torch.stack([level.value for level in seen[2:]], 1)
            slope = (values[:, ::2] - values[:, 1::2]) / (2 * h)
            torch.testing.assert_close(seen[0].slope, slope, rtol=1e-5, atol=1e-6)


def test_lbfgs_goes_straight_to_the_plane_whatever_the_other_rows_do() -> None:
    centre = 0.4 + 0.2 * torch.rand(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = torch.randn(20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = torch.tensor([0.01, 0.1, 0.3])  # very different distances

    rows, plain = centre + w / w.norm() * ends[:, None], line(w, -float(centre @ w))
    found = closest(LBFGS(), plain, rows, label(3), L2(1.0))
    move = found.x - rows
    assert (torch.cosine_similarity(move, -w.expand(3, -1)) > 0.999).all()
    torch.testing.assert_close(found.distance, ends.double(), rtol=0.01, atol=0)
    for i in range(3):
        alone = closest(LBFGS(), plain, rows[i : i + 1], label(1), L2(1.0), ids=[i])
        assert torch.equal(alone.x[0], found.x[i])


@each
@domains
def test_distance_to_the_nearest_class_of_a_linear_model(attack: Any, norm: str, domain: tuple[float, float]) -> None:
    x0 = starts(6, 12, domain)
    model = Planes(x0, 4, seed=2)
    truth = model.distance(x0, norm, domain)
    found = closest(attack, model, x0, label(6), NORMS[norm](1.0, domain))
    ratio = found.distance / truth
    assert truth.isfinite().all()
    assert (ratio >= 1 - 1e-6).all()
    assert ratio.max() <= 1.05, ratio


@each
def test_distance_to_a_target_class(attack: Any, norm: str) -> None:
    x0 = starts(5, 12, (-math.inf, math.inf))
    model = Planes(x0, 3, seed=7)
    model.weight, model.bias = model.weight[:2], model.bias[:2]
    truth = model.distance(x0, norm, (-math.inf, math.inf))
    threat = NORMS[norm](1.0, (-math.inf, math.inf))
    found = closest(attack, model, x0, label(5), threat, NotClass(1))
    assert (NotClass(1).margin(model(found.x), label(5)) <= 0).all()
    assert (found.distance / truth).max() <= 1.05


@each
def test_pixels_on_the_edges_of_the_domain_are_not_frozen(attack: Any, norm: str) -> None:
    """Only pixels that are exactly 0 and may rise, or exactly 1 and may fall, change the margin."""
    x0 = torch.full((2, 12), 0.5)
    x0[:, :4], x0[:, 4:8] = 0.0, 1.0
    w = torch.tensor([-1.0] * 4 + [1.0] * 4 + [0.0] * 4)
    model = line(w, -float(x0[0] @ w) + 1.2)
    truth = {"linf": 1.2 / 8, "l2": 1.2 / math.sqrt(8), "l1": 1.2}[norm]
    found = closest(attack, model, x0, label(2), NORMS[norm](1.0))
    assert found.refuted.all()
    assert float(found.distance.max()) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (LBFGS(steps=15, searches=4), "l2"),
        (CW(steps=150, rounds=2), "l2"),
        (CW(steps=150, rounds=3), "linf"),
        (CW(steps=150, rounds=2), "l0"),
        (EAD(steps=30, searches=3), "l1"),
        (JSMA(), "l0"),
    ],
    ids=str,
)
def test_three_rows_are_three_single_rows(attack: Any, norm: str) -> None:
    x0 = starts(3, 15, (0.0, 1.0), seed=4).float()
    planes = Planes(x0.double(), 5, seed=8)

    def model(x: torch.Tensor) -> torch.Tensor:
        """The planes without a product of matrices, whose rows some processors round by their place."""
        return (x[:, None] * planes.weight.to(x)).sum(2) + planes.bias.to(x)

    threat: Threat = L0(3) if norm == "l0" else NORMS[norm](1.0)
    together = closest(attack, model, x0, label(3), threat)
    for i in range(3):
        alone = closest(attack, model, x0[i : i + 1], label(1), threat, ids=[i])
        assert torch.equal(alone.x[0], together.x[i])
        assert alone.queries[0] == together.queries[i]


@pytest.mark.parametrize("attack", SPARSE, ids=repr)
@pytest.mark.parametrize("shape", [(30,), (3, 4, 5)], ids=str)
def test_the_fewest_pixels_of_a_linear_model(attack: Any, shape: tuple[int, ...]) -> None:
    x0 = starts(8, math.prod(shape), (0.0, 1.0)).float()
    w = torch.randn(math.prod(shape), generator=torch.Generator().manual_seed(3))
    gain = torch.maximum(x0 * w, (x0 - 1) * w).reshape(8, *shape)
    gain = gain.sum(1).flatten(1) if len(shape) == 3 else gain
    model = line(w, 2 - float((x0 @ w).min()))
    reached = gain.sort(1, descending=True).values.cumsum(1)
    truth = (reached < model(x0)[:, :1]).sum(1) + 1
    assert len(truth.unique()) >= 3
    found = closest(attack, model, x0.reshape(8, *shape), label(8), L0(3))
    assert (found.distance >= truth).all()
    assert (found.distance <= truth + isinstance(attack, CW)).all()  # it may keep a pixel too many
    assert (found.distance == truth).sum() >= 6


def test_saliency_aims_at_one_class_after_the_other() -> None:
    x0 = starts(6, 30, (0.0, 1.0)).float()
    model = Planes(x0.double(), 6, seed=9)
    few, many = (closest(JSMA(targets=n, most=1.0), model, x0, label(6), L0(3)) for n in (1, 5))
    assert (many.distance <= few.distance).all()
    aimed = closest(JSMA(most=1.0), model, x0, label(6), L0(3), NotClass(2))
    assert (model(aimed.x).argmax(1) == 2).all()


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "norm", "share"), [(*pair, 0.5) for pair in MINIMAL], ids=str)
def test_most_distances_of_networks_of_one_hidden_layer_are_found(attack: Any, norm: str, share: float) -> None:
    size, radius = (2, 0.3) if norm == "l2" else (3, 0.3 if norm == "linf" else 0.25)
    threat = NORMS[norm](radius)
    x0 = 0.3 + 0.4 * torch.rand(32, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = ratios(attack, networks(size, 0, False), x0, threat, 12)
    assert len(found) > 5
    assert ((found <= 1.05).double().mean()) >= share, found


@pytest.mark.parametrize("threat", [Linf(0.08), L2(0.3), L1(0.4)], ids=lambda threat: threat.norm)
@pytest.mark.parametrize("attack", [BIM(), MIFGSM()], ids=repr)
def test_a_linear_margin_falls_by_the_radius_times_the_dual_norm(attack: Any, threat: Threat) -> None:
    x0 = 0.45 + 0.1 * torch.rand(4, 12, generator=torch.Generator().manual_seed(0))
    w = torch.randn(12, generator=torch.Generator().manual_seed(1))
    found = run(attack, line(w, 9.0), x0, label(4), threat)
    fall = threat.radius * torch.linalg.vector_norm(w, {"linf": 1, "l2": 2, "l1": math.inf}[threat.norm])
    torch.testing.assert_close(found.clean_margin - found.margin, fall.expand(4), rtol=1e-4, atol=1e-5)


def test_bim_takes_steps_of_one_level_at_eight_levels() -> None:
    x0, steps = torch.full((1, 5), 0.5), []
    search = BIM().search(x0, Linf(8 / 255), RowRandom(row_seeds(0, [0], "")))
    x, grad = next(search).x, torch.tensor([[1.0, -2.0, 0.0, 3.0, -1.0]])
    while True:
        margin = torch.ones(1)
        try:
            ask = search.send(Told(margin, margin, grad, margin[:, None], torch.ones(1, dtype=torch.bool)))
        except StopIteration:
            break
        steps.append((ask.x - x) * 255)
        x = ask.x
    assert len(steps) == 10
    torch.testing.assert_close(steps[0], -grad.sign(), atol=1e-4, rtol=0)
    torch.testing.assert_close((x - x0) * 255, -8 * grad.sign(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_momentum_is_the_decaying_sum_of_gradients_of_length_one(decay: float) -> None:
    generator = torch.Generator().manual_seed(5)
    x0, threat, steps = torch.full((2, 6), 0.5), Linf(0.1), 6
    grads = torch.randn(steps, 2, 6, generator=generator) * torch.tensor([1.0, 1e3])[:, None]
    search = MIFGSM(steps=steps, decay=decay).search(x0, threat, RowRandom(row_seeds(0, range(2), "")))
    asked = [next(search).x]
    for grad in grads:
        margin = torch.ones(2)
        told = Told(margin, margin, grad, margin[:, None], torch.ones(2, dtype=torch.bool))
        asked.append(search.send(told).x)
    expected = x0
    for step in range(steps):
        unit = grads[: step + 1] / grads[: step + 1].abs().sum(2, keepdim=True)
        share = decay ** torch.arange(step, -1, -1.0)
        expected = threat.project(x0, expected - 0.1 / steps * (unit * share[:, None, None]).sum(0).sign())
        torch.testing.assert_close(asked[step + 1], expected)
    assert torch.equal(asked[0], x0)


def test_the_tanh_variable_tells_every_point_and_never_stands_still() -> None:
    x0 = torch.linspace(0, 1, 11)[None]
    for domain in ((0.0, 1.0), (-2.0, 3.0)):
        squash = Squash(Linf(1.0, domain), x0, torch.ones(1))
        x = domain[0] + (domain[1] - domain[0]) * x0
        w = squash.variable(x)
        point, slope = squash.point(w)
        torch.testing.assert_close(point, x, atol=1e-6, rtol=0)
        assert (slope > 0.05).all()
        assert torch.equal(squash.stop(w + 9), squash.stop(w + 10))
        torch.testing.assert_close(squash.point(squash.stop(w + 9))[0], torch.full_like(x, domain[1]))
        step = squash.point(w + 1e-3)[0] - squash.point(w - 1e-3)[0]
        torch.testing.assert_close(step[:, 1:-1], 2e-3 * slope[:, 1:-1], rtol=2e-3, atol=1e-6)
    free = Squash(L2(1.0, (-math.inf, math.inf)), x0, torch.full((1,), 4.0))
    torch.testing.assert_close(free.point(free.variable(x0 + 8))[0], x0 + 8)
