"""The schedules: what each stage adds, that easy rows leave early, and the members of the standard ensemble."""

import pytest
import torch
from torch import Tensor, nn

from withstand.attacks.apgd_t import ApgdT
from withstand.attacks.multi_targeted import MultiTargeted
from withstand.attacks.parts.targeting import by_distance
from withstand.attacks.parts.walks import sparse_step
from withstand.attacks.standard import Standard
from withstand.attacks.worst import AUDIT, Worst
from withstand.core.balls import L1, L2, Linf
from withstand.core.errors import InputError
from withstand.core.evidence import Told
from withstand.core.property import Argmax, Band
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.core.threat import Threat

LONG = {("worst", "l1"), ("standard", "l1"), ("standard", "l2")}
"""Schedule and norm of the tests that take longest."""


def linear(classes: int = 5, inputs: int = 30) -> tuple[nn.Linear, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Linear(inputs, classes).requires_grad_(False)
        x0 = 0.3 + 0.4 * torch.rand(40, inputs)
    return model, x0, model(x0).argmax(1)


def distances(model: nn.Linear, x0: Tensor, y: Tensor, dual: float) -> Tensor:
    """The exact distance [B] to the nearest other class, away from the domain's edges."""
    margins = Argmax().targets(model(x0), y)
    slopes = Argmax().rows(y, model.out_features).weight @ model.weight
    return (margins / torch.linalg.vector_norm(slopes, dual, dim=2)).amin(1)


@pytest.mark.parametrize(
    ("attack", "threat", "dual"),
    [
        pytest.param(attack, threat, dual, marks=[pytest.mark.slow] if (attack, threat.norm) in LONG else [])
        for attack in ("worst", "standard", "apgd-t", "multi-targeted")
        for threat, dual in ((Linf(1.0), 1.0), (L2(1.0), 2.0), (L1(1.0), torch.inf))
    ],
)
def test_a_linear_model_is_refuted_exactly_from_its_distance_on(attack: str, threat: Threat, dual: float) -> None:
    model, x0, y = linear()
    radii = distances(model, x0, y, dual)
    text = {"worst": "worst:walks=1,queries=0", "standard": "standard:steps=50,targets=4,queries=10"}.get(
        attack, attack
    )
    inside = radii < 0.25  # where the nearest violation does not meet the domain's edge
    found = run(build("attack", text), model, x0, y, threat.at(radii * 1.03))
    assert found.refuted[inside].all()
    assert not run(build("attack", text), model, x0, y, threat.at(radii * 0.99)).refuted.any()


def test_the_order_by_distance_is_the_exact_one_on_a_linear_model() -> None:
    model, x0, y = linear()
    margins = Argmax().targets(model(x0), y)
    slopes = Argmax().rows(y, 5).weight @ model.weight
    search = by_distance(x0, Linf(0.1), 3)
    live = torch.ones(len(x0), dtype=torch.bool)
    ask = next(search)
    ask = search.send(Told(margins.amin(1), margins.amin(1), None, margins, live))
    assert ask.target is not None
    near = ask.target
    picked = slopes.gather(1, near[:, :, None].expand(-1, -1, 30))
    with pytest.raises(StopIteration) as end:
        search.send(Told(margins.amin(1), margins.gather(1, near), picked, margins, live))
    assert torch.equal(end.value.value, (margins / slopes.abs().sum(2)).argsort(1)[:, :3])


def test_the_audit_stage_finds_what_gradients_do_not_show() -> None:
    x0 = torch.full((30, 16), 0.45)
    y = torch.zeros(30, dtype=torch.long)
    blind = run(Worst(walks=1, queries=0), Masked(), x0, y, Linf(0.1))
    found = run(Worst(walks=1, queries=60, then="none"), Masked(), x0, y, Linf(0.1))
    assert not blind.refuted.any()
    assert found.refuted.any()
    assert (found.stage[found.refuted] == AUDIT).all()
    further = run(Worst(walks=1, queries=60, then="square:queries=300"), Masked(), x0, y, Linf(0.1))
    assert further.refuted.sum() > found.refuted.sum()
    assert (further.queries[~further.refuted] > found.queries[~further.refuted] + 300).all()
    assert (further.refuted | ~found.refuted).all()


def test_what_follows_is_checked_before_anything_runs() -> None:
    with pytest.raises(InputError, match="'worst': There is no attack 'squar'; did you mean 'square'"):
        build("attack", "worst:then=squar")


class Masked(nn.Module):
    """Refuted only within a corner, from which gradients point away; walks on it never meet the corner."""

    def forward(self, x: Tensor) -> Tensor:
        corner = (x[:, 0] > 0.549) & (x[:, 1:] < 0.351).all(1)
        margin = torch.where(corner, -1.0, 1.0 + x.sum(1))
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def test_rows_that_fall_at_the_first_walk_cost_no_more_than_it() -> None:
    model, x0, y = linear()
    found = run(Worst(), model, x0, y, Linf(0.5))
    assert found.refuted.all()
    assert (found.queries <= 4).all()


def test_targets_are_no_more_than_there_are_and_two_classes_do() -> None:
    model, x0, y = linear(classes=2)
    for attack in (ApgdT(steps=5), MultiTargeted(steps=5), Worst(walks=1, queries=5), Standard(steps=5, queries=5)):
        assert run(attack, model, x0, y, Linf(0.5)).refuted.all()


def test_a_sparse_step_moves_the_share_told_by_one_in_all() -> None:
    step = sparse_step(torch.randn(3, 50, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.2, 0.0]))
    torch.testing.assert_close(step.abs().sum(1), torch.ones(3))
    assert (step != 0).sum(1).tolist() == [5, 10, 1]


def test_a_property_without_the_ensemble_s_loss_is_not_escalated() -> None:
    x0, y = torch.full((3, 4), 0.5), torch.zeros(3)
    found = run(Worst(walks=1, queries=5), lambda x: 0 * x.sum(1, keepdim=True), x0, y, Linf(0.1), Band(1.0))
    assert not found.refuted.any()
    assert (found.zero_gradients == found.gradients).all()
