"""Feature scattering: what is climbed, and the softened labels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.hardening.objectives.feature_scatter import FeatureScatter
from withstand.hardening.parts.smoothing import smoothed, soft_labels
from withstand.hardening.parts.transport import cosine_cost, sinkhorn, transport_cost
from withstand.hardening.state import State


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(rows, 6, generator=rng), torch.randint(0, 3, (rows,), generator=rng)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def far(model: nn.Module, x: Tensor, at: Tensor) -> float:
    with torch.no_grad():
        cost = cosine_cost(model(x), model(at))
        return float(transport_cost(cost, sinkhorn(cost, 0.01, 1000)))


def test_points_are_farther_in_transport_than_random_ones_and_steps_help() -> None:
    model, (x, y), state = network(), batch(), State("linf:0.1")
    one, many = (far(model, x, FeatureScatter(steps=n, step=0.5).find(model, x, y, state)) for n in (1, 10))
    start = far(model, x, state.threat.sample(x, state.rng(x, "feature-scatter")))
    assert start < one < many


def test_labels_play_no_part_in_the_points() -> None:
    model, (x, y), state = network(), batch(), State("linf:0.1")
    points = [FeatureScatter().find(model, x, labels, state) for labels in (y, (y + 1) % 3)]
    assert torch.equal(points[0], points[1])


def test_a_row_depends_on_the_others_as_is_declared() -> None:
    model, (x, y), state = network(), batch(), State("linf:0.1")
    objective = FeatureScatter(steps=10, step=0.2)
    assert objective.coupled
    assert not torch.equal(objective.find(model, x, y, state)[:4], objective.find(model, x[:4], y[:4], state))


def test_alone_a_point_turns_its_output_away_from_the_clean_one() -> None:
    model, (x, y), state = network(), batch(1), State("linf:0.1")
    at = FeatureScatter().find(model, x, y, state)
    begin = state.threat.sample(x, state.rng(x, "feature-scatter")).requires_grad_()
    turned = 1 - F.cosine_similarity(model(x).detach(), model(begin))
    (slope,) = torch.autograd.grad(turned.sum(), begin)
    torch.testing.assert_close(at, state.threat.project(x, begin.detach() + 0.1 * slope.sign()))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5])
def test_softened_labels_keep_their_share_and_sum_to_one(classes: int, spread: float) -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(0, classes, (20,), generator=rng)
    labels = soft_labels(y, classes, spread)
    torch.testing.assert_close(labels.sum(1), torch.ones(20))
    torch.testing.assert_close(labels.gather(1, y[:, None]), torch.full((20, 1), 1 - spread))
    outputs = torch.randn(20, classes, generator=rng)
    torch.testing.assert_close(smoothed(outputs, y, spread), F.cross_entropy(outputs, labels))


def test_at_a_radius_of_zero_it_is_training_with_softened_labels() -> None:
    model, (x, y) = network(), batch()
    value = FeatureScatter()(model, x, y, State("linf:0")).value
    assert torch.equal(value, smoothed(model(x), y, 0.5))
