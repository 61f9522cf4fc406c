"""The runner: budgets, estimates, best points, bookkeeping."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from withstand.attacks.noise import Noise
from withstand.attacks.pgd import PGD
from withstand.core import budget as clock
from withstand.core.balls import L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.evidence import Ask, Told
from withstand.core.property import Argmax, Band
from withstand.core.registry import build
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Found, Search, run
from withstand.core.threat import Threat


@dataclass(frozen=True, kw_only=True)
class Script:
    """Asks the given shifts from x0, one after the other."""

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "box")
    access: ClassVar[Access] = Access.GRADIENT

    shifts: tuple[float, ...] = ()
    grad: bool = False

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        for shift in self.shifts:
            yield Ask(x0 + shift, grad=self.grad)


def slope(x: Tensor) -> Tensor:
    """Label 0 leads by the sum of x."""
    total = x.flatten(1).sum(1)
    return torch.stack([total, torch.zeros_like(total)], 1)


def zeros(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.long)


def test_points_outside_the_threat_are_no_evidence() -> None:
    x0 = torch.full((2, 3), 0.2)
    found = run(Script(shifts=(-0.3, -0.15, -0.05)), slope, x0, zeros(2), Linf(0.1, (-1.0, 1.0)))
    assert not found.refuted.any()
    assert (found.margin <= found.clean_margin).all()
    assert Linf(0.1, (-1.0, 1.0)).contains(x0, found.x).all()


def test_the_best_point_is_kept_whatever_comes_after() -> None:
    x0 = torch.full((2, 3), 0.5)
    found = run(Script(shifts=(0.05, -0.09, 0.01, -0.02)), slope, x0, zeros(2), Linf(0.1))
    torch.testing.assert_close(found.x, x0 - 0.09)
    torch.testing.assert_close(found.margin, torch.full((2,), 3 * 0.41))
    assert found.queries.tolist() == [5, 5]


def test_time_is_not_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])

    def slow(x: Tensor) -> Tensor:
        now[0] += 1.0
        return slope(x)

    x0 = torch.full((4, 3), 0.5)
    for seconds, calls in ((5.5, 5), (3.0, 2), (0.5, 1)):
        now[0] = 0.0
        found = run(Noise(draws=100), slow, x0, zeros(4), Linf(0.1), budget=Budget(seconds, _began=0.0))
        assert found.stopped == "time"
        assert now[0] == calls
        assert found.queries.tolist() == [calls] * 4
    now[0] = 0.0
    found = run(
        PGD(), slow, x0, zeros(4), Linf(0.1), budget=Budget(30.0, _began=0.0), access=Access.SCORES, probes=5
    )  # eleven seconds an ask
    assert now[0] == 23
    assert found.stopped == "time"


def test_queries_stop_before_the_ask_they_do_not_cover() -> None:
    x0 = torch.full((3, 4), 0.5)
    found = run(
        PGD(), slope, x0, zeros(3), Linf(0.01), budget=Budget(queries=30), access=Access.SCORES, probes=5
    )  # 1 + 11 + 11 = 23, one more ask would make 34
    assert found.queries.tolist() == [23] * 3
    assert found.stopped == "queries"
    assert run(PGD(steps=3), slope, x0, zeros(3), Linf(0.01)).stopped is None


def test_the_estimate_comes_close_to_the_gradient_and_stays_in_the_domain() -> None:
    weights = torch.randn(12, generator=torch.Generator().manual_seed(0))
    told = []

    @dataclass(frozen=True)
    class Look(Script):
        def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
            told.append((yield Ask(x0, grad=True)))

    def linear(x: Tensor) -> Tensor:
        assert (x >= 0).all()
        assert (x <= 1).all()
        margin = x.double() @ weights.double() + 20
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    x0 = torch.full((6, 12), 0.5)
    x0[:, 0], x0[:, 1] = 0.0, 1.0
    found = run(Look(), linear, x0, zeros(6), Linf(0.1), access=Access.SCORES, probes=1500)
    grad = told[0].grad
    expected = weights.clone()
    expected[:2] /= 2  # one-sided probes at the edges
    assert (grad - expected).abs().max() < 0.45
    assert torch.equal(grad[:, 1].sign(), weights[1].sign().expand(6))
    assert found.queries.tolist() == [3002] * 6
    assert (grad[0] != grad[1]).all()


def test_zero_gradients_are_counted_and_replaced_by_a_direction_of_the_rows_own() -> None:
    x0 = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    told = []

    @dataclass(frozen=True)
    class Look(Script):
        def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
            told.append((yield Ask(x0, grad=True)))

    def partly(x: Tensor) -> Tensor:
        flat = x[:, 0] > 0.5
        return slope(torch.where(flat[:, None], x.detach(), x))

    found = run(Look(), partly, x0, zeros(5), Linf(0.1))
    flat = x0[:, 0] > 0.5
    assert flat.any()
    assert (~flat).any()
    assert torch.equal(found.zero_gradients, flat.long())
    assert (told[0].grad[~flat] == 1).all()
    assert ((told[0].grad[flat] != 0) & (told[0].grad[flat] != 1)).all()
    run(Look(), partly, x0[flat], zeros(int(flat.sum())), Linf(0.1), ids=flat.nonzero()[:, 0].tolist())
    assert torch.equal(told[1].grad, told[0].grad[flat])


def test_nan_gradients_become_zero_and_are_counted() -> None:
    def rooted(x: Tensor) -> Tensor:
        return slope((x - x.detach()).sqrt() * 0 + x)

    found = run(PGD(steps=3), rooted, torch.rand(4, 3) * 0.5 + 0.3, zeros(4), Linf(0.1))
    assert (found.nonfinite == 3).all()
    assert found.margin.isfinite().all()


def test_a_model_without_gradient_path_counts_as_zero_gradients() -> None:
    found = run(PGD(steps=4), lambda x: slope(x.detach()), torch.rand(3, 5), zeros(3), Linf(0.1))
    assert found.zero_gradients.tolist() == [4, 4, 4]


def test_batches_and_ids_are_the_samples_own() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3)).requires_grad_(False)
        x0 = torch.rand(30, 10)
    y = net(x0).argmax(1)
    whole = run(PGD(), net, x0, y, L2(0.3), ids=range(100, 130))
    tail = run(PGD(), net, x0[20:], y[20:], L2(0.3), ids=range(120, 130), batch=3)
    assert torch.equal(whole.x[20:], tail.x)
    assert whole.refuted.any()
    assert not whole.refuted.all()
    other = run(PGD(), net, x0, y, L2(0.3), ids=range(30))
    assert not torch.equal(whole.x, other.x)


def test_regression_and_boxes_of_their_own() -> None:
    x0 = torch.linspace(0.2, 0.8, 6)[:, None].expand(6, 3).clone()
    y = x0.sum(1, keepdim=True)
    found = run(PGD(), lambda x: x.sum(1, keepdim=True), x0, y, Linf(0.1), Band(0.25))
    assert found.refuted.all()
    assert not run(PGD(), lambda x: x.sum(1, keepdim=True), x0, y, Linf(0.1), Band(0.31)).refuted.any()
    boxes = Box(lower=x0 - 0.05, upper=x0 + torch.linspace(0, 0.3, 6)[:, None])
    found = run(PGD(), lambda x: x.sum(1, keepdim=True), x0, y, boxes, Band(0.2), batch=4)
    assert boxes.contains(x0, found.x).all()
    assert found.refuted.tolist() == [False, False, True, True, True, True]


def test_a_box_is_judged_by_its_own_points() -> None:
    box = Box(lower=torch.full((3,), 0.2), upper=torch.full((3,), 0.4))
    outside = torch.full((1, 3), -1.0)  # violates the property, but is not in the box
    found = run(PGD(), slope, outside, zeros(1), box)
    assert not found.refuted.any()
    torch.testing.assert_close(found.margin, torch.tensor([0.6]))
    shifted = run(PGD(), lambda x: slope(x - 0.3), outside, zeros(1), box)
    assert shifted.refuted.all()
    assert shifted.queries.tolist() == [1]


def test_late_falls_are_told() -> None:
    x0 = torch.full((1, 2), 0.5)
    steady = run(Script(shifts=(-0.05,) * 20), slope, x0, zeros(1), Linf(0.1))
    last = run(Script(shifts=(0.0,) * 19 + (-0.05,)), slope, x0, zeros(1), Linf(0.1))
    assert steady.late.item() == 0
    assert last.late.item() == pytest.approx(1)


def test_no_rows_and_wrong_numbers_of_rows() -> None:
    empty = run(PGD(), slope, torch.zeros(0, 3), zeros(0), Linf(0.1))
    assert len(empty.x) == len(empty.refuted) == 0
    with pytest.raises(InputError, match="There are 2 inputs, 3 targets and 2 ids"):
        run(PGD(), slope, torch.zeros(2, 3), zeros(3), Linf(0.1))


def test_join_keeps_order_and_the_reason() -> None:
    x0 = torch.rand(3, 2)
    a = run(Noise(draws=1), slope, x0, zeros(3), Linf(0.1))
    b = run(Noise(draws=9), slope, x0, zeros(3), Linf(0.1), budget=Budget(queries=2))
    joined = Found.join([a, b])
    assert torch.equal(joined.x, torch.cat([a.x, b.x]))
    assert joined.stopped == "queries"


def test_models_are_left_as_they_are() -> None:
    """A model that hands out its own buffer, needs weight gradients and is given in training mode stays untouched."""
    net = nn.Linear(4, 3)
    before = net.weight.detach().clone()
    buffer = torch.zeros(16, 3)

    def shared_buffer(x: Tensor) -> Tensor:
        if x.requires_grad:
            return net(x)
        with torch.no_grad():
            buffer.copy_(net(x))
        return buffer

    x0 = torch.rand(16, 4)
    y = net(x0).argmax(1)
    found = run(PGD(steps=5), shared_buffer, x0, y, Linf(0.3))
    torch.testing.assert_close(Argmax().margin(net(found.x), y).detach(), found.margin)
    assert net.weight.grad is None
    assert torch.equal(net.weight, before)


@dataclass(frozen=True)
class Patient:
    """An attack that asks about each row as often as its first pixel says, and keeps what it was told."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)
    access: ClassVar[Access] = Access.GRADIENT

    told: list[Told] = field(default_factory=list, compare=False)

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        x = x0
        asks = (x0[:, 0] * 40).round()
        for number in range(40):
            told = yield Ask(x, grad=True, rows=(number % 2 == 0) & (number < 2 * asks) | (number >= 40 - asks))
            self.told.append(told)
            assert told.grad is not None
            x = threat.project(x0, x - 0.004 * told.grad.sign())


def test_rows_asked_at_times_of_their_own_do_not_depend_on_the_batch() -> None:
    x0 = torch.linspace(0.25, 0.5, 6)[:, None].expand(6, 3) + torch.tensor([0.0, 0.1, 0.2])

    def bent(x: Tensor) -> Tensor:
        return torch.stack([x.sin().sum(1) + 5, x.prod(1)], 1)

    for access in (Access.GRADIENT, Access.SCORES):
        whole = run(Patient(), bent, x0, zeros(6), Linf(0.1), access=access, probes=2)
        assert (whole.late > 0).any()
        for i in range(6):
            alone = run(Patient(), bent, x0[i : i + 1], zeros(1), Linf(0.1), ids=[i], access=access, probes=2)
            for name in ("x", "margin", "queries", "late"):
                assert torch.equal(getattr(whole, name)[i : i + 1], getattr(alone, name)), name


def test_the_nearest_violations_still_violate_in_batches_of_other_sizes() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 5)).requires_grad_(False)
        x0 = torch.rand(40, 60)
    y = model(x0).argmax(1)
    found = run(build("attack", "fab-t:targets=2,steps=20"), model, x0, y, Linf(torch.inf), closest=True)
    assert found.refuted.all()
    alone = torch.cat([model(x[None]) for x in found.x])
    assert (Argmax().margin(alone, y) < 0).all()
    assert (Argmax().margin(alone, y) > -1e-3).any()


@dataclass(frozen=True)
class Escalating:
    """Leaves each row alone after as many asks as its first pixel says, then wants ten asks more of all."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)
    access: ClassVar[Access] = Access.GRADIENT

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        for number in range(9):
            yield Ask(x0, rows=number < (x0[:, 0] * 10).round())

    def escalate(self, found: Found) -> Script:
        return Script(shifts=(-0.05,) * 10)


def test_what_follows_an_attack_keeps_each_rows_budget() -> None:
    x0 = torch.tensor([0.2, 0.5, 0.8])[:, None].expand(3, 3)
    for budget, spent in ((None, [14, 17, 20]), (12, [12, 12, 12]), (9, [9, 9, 9]), (5, [5, 5, 5]), (1, [1, 1, 1])):
        limit = Budget(queries=budget)
        found = run(Escalating(), slope, x0, zeros(3), Linf(0.1), budget=limit)
        assert found.queries.tolist() == spent
        alone = [run(Escalating(), slope, x0[i : i + 1], zeros(1), Linf(0.1), ids=[i], budget=limit) for i in range(3)]
        assert torch.equal(found.margin, torch.cat([one.margin for one in alone]))


def test_a_band_needs_one_reference_or_one_an_output() -> None:
    with pytest.raises(InputError, match="compares 4 outputs with a reference of 3 numbers"):
        Band(0.1).margin(torch.zeros(2, 4), torch.zeros(2, 3))
    assert Band(0.1).margin(torch.zeros(2, 4), torch.zeros(2)).tolist() == [pytest.approx(0.1)] * 2


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """Asks about four points a row with weights of their own, and keeps what it is told."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)
    access: ClassVar[Access] = Access.GRADIENT

    seen: list[tuple[Tensor, Told]] = field(default_factory=list, repr=False)

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        weights = rng.uniform((4, 2))
        told = yield Ask(x0[:, None] + 0.01 * rng.uniform((4, 3)), grad=True, weights=weights)
        self.seen.append((weights, told))


def test_several_points_a_row_may_each_have_weights_of_their_own() -> None:
    weight = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    attack, x0 = Weighing(), torch.full((5, 3), 0.5)
    run(attack, lambda x: x @ weight, x0, zeros(5), Linf(0.1))
    ((weights, told),) = attack.seen
    assert told.targets is not None
    assert told.grad is not None
    torch.testing.assert_close(told.loss, (weights * told.targets).sum(2))
    slopes = torch.stack([weight[:, 0] - weight[:, 1], weight[:, 0] - weight[:, 2]])
    torch.testing.assert_close(told.grad, weights @ slopes)
    assert len(weights.flatten(0, 1).unique(dim=0)) == 20
