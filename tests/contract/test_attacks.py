"""What holds of every registered attack in every norm it declares."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar

import pytest
import torch
from quick import QUICK
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from withstand.core.attack import is_minimal, roams
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.flow_linf import FlowLinf
from withstand.core.patch import Patch
from withstand.core.property import Argmax
from withstand.core.registry import build, components
from withstand.core.rng import RowRandom
from withstand.core.runner import TILE, Access, Found, Search, run
from withstand.core.sparse import L0
from withstand.core.spatial import Flow, Spatial
from withstand.core.threat import Threat

SHAPE = (2, 5, 6)
SIZES = {
    "linf": (Linf, 0.12),
    "l2": (L2, 0.7),
    "l1": (L1, 3.0),
    "l0": (L0, 4.0),
    "patch": (partial(Patch, window=(3, 2)), 1.0),
    "flow": (Flow, 0.8),
    "spatial": (Spatial, 0.5),
    "flow+linf": (FlowLinf, 3.0),
}
CASES = [(name, norm) for name, cls in components("attack").items() for norm in cls.norms]
LONG = {("standard", "l2"), ("worst", "l2"), ("worst", "flow"), ("worst", "box")}
"""Ensembles that do in other norms all that they do in these: in linf, in l1 and in flow+linf."""
pytestmark = pytest.mark.parametrize(
    ("name", "norm"), [pytest.param(*case, marks=[pytest.mark.slow] if case in LONG else []) for case in CASES]
)


def need(name: str) -> Access:
    """What the attack needs of the model."""
    return components("attack")[name].access  # type: ignore[attr-defined]


def quick(name: str) -> Any:
    return build("attack", QUICK.get(name, name))


def threat_of(norm: str, levels: int | None = None) -> Threat:
    """A threat of a size that refutes some of the rows of `problem` and not others."""
    if norm == "box":
        edge = torch.linspace(0, 0.3, 60).reshape(SHAPE)
        return Box(lower=0.35 - edge, upper=0.4 + edge)
    kind, radius = SIZES[norm]
    return kind(radius, levels=levels)


def inside(norm: str, x0: Tensor) -> Tensor:
    """x0, moved into the threat where that is a box."""
    threat = threat_of(norm)
    return x0 if threat.anchored else threat.project(x0, x0)


def problem(rows: int = 20) -> tuple[nn.Module, Tensor, Tensor]:
    """A small network, inputs and the labels it gives them, a few at the domain's edges."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(60, 24), nn.ReLU(), nn.Linear(24, 4)).requires_grad_(False)
        x0 = torch.rand(rows, *SHAPE)
        x0 = torch.where(torch.rand_like(x0) < 0.1, x0.round(), x0)
    return model, x0, model(x0).argmax(1)


@dataclass
class Spy:
    """An attack that keeps what it asked, and which rows were live then."""

    norms: ClassVar[tuple[str, ...]] = tuple({norm for _, norm in CASES})
    access: ClassVar[Access] = Access.GRADIENT

    attack: Any
    asked: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        inner = self.attack.search(x0, threat, rng)
        live = torch.ones(len(x0), dtype=torch.bool)
        ask = next(inner)
        while True:
            self.asked.append((ask.x.clone(), live))
            told = yield ask
            live = told.live
            try:
                ask = inner.send(told)
            except StopIteration:
                return


class Counter(nn.Module):
    """A model that keeps every batch it was given."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x.detach().clone())
        return self.model(x)

    def saw(self, queries: Tensor, loose: bool) -> bool:
        """Whether it was given as many rows as `queries` says, beside the repeats of a row that fill the last tile."""
        if loose:  # different samples share their points, so repeats cannot be told
            return 0 <= sum(map(len, self.batches)) - int(queries.sum()) < TILE * len(self.batches)
        return sum(len(torch.unique(batch, dim=0)) for batch in self.batches) == int(queries.sum())


class Uneven(TorchDispatchMode):
    """Keeps the names of the functions run whose last numbers torch computes by other code than the others, so that
    they may round differently."""

    NAMES = frozenset({"pow", "sigmoid", "atanh", "asinh", "acosh", "atan2", "logit", "softplus", "hypot", "exp2"})
    EXACT = (0, 1, 2, 3, 0.5, -0.5, -1, -2)
    """Powers that torch computes by products, roots and quotients."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.removesuffix("_")
        exact = name == "pow" and not isinstance(args[1], Tensor) and args[1] in self.EXACT
        if name in self.NAMES and not exact:
            self.ran.add(name)
        return func(*args, **(kwargs or {}))


@cache
def whole(name: str, norm: str) -> Found:
    """What the attack finds for `problem`, all rows in one batch."""
    return run(quick(name), *problem(), threat_of(norm))


def same(a: Found, b: Found, order: Tensor | None = None) -> None:
    """Whether b is what a is at the rows `order`: all of them unless given."""
    order = torch.arange(len(a.x)) if order is None else order
    for name in ("x", "margin", "clean_margin", "refuted", "queries", "gradients", "late"):
        assert torch.equal(getattr(a, name)[order], getattr(b, name)), name


def test_every_point_asked_lies_in_the_threat(name: str, norm: str) -> None:
    model, x0, y = problem()
    threat, spy = threat_of(norm), Spy(quick(name))
    run(spy, model, x0, y, threat)
    assert spy.asked
    allowed = threat.at(torch.inf) if roams(spy.attack) else threat
    for x, live in spy.asked:
        points = x.reshape(len(x0), -1, *threat.start(x0).shape[1:])
        for point in points.unbind(1):
            assert allowed.contains(x0, point)[live].all()


def test_points_reach_the_model_on_the_grid_of_a_quantised_input(name: str, norm: str) -> None:
    if norm == "box":
        pytest.skip("a box has no quantised form")
    model, x0, _ = problem()
    x0 = (x0 * 255).round() / 255
    counter, threat = Counter(model), threat_of(norm, levels=255)
    found = run(quick(name), counter, x0, model(x0).argmax(1), threat)
    for batch in counter.batches:
        assert (batch * 255 - (batch * 255).round()).abs().max() < 1e-3
    assert threat.contains(x0, found.x).all()


def test_the_result_is_evaluated_inside_and_no_worse_than_the_start(name: str, norm: str) -> None:
    model, x0, y = problem()
    threat, found = threat_of(norm), whole(name, norm)
    assert (found.margin <= found.clean_margin).all()
    assert torch.equal(found.refuted, found.margin <= 0)
    torch.testing.assert_close(Argmax().margin(model(threat.deploy(x0, found.x)), y), found.margin)
    assert threat.contains(x0, found.x).all()
    assert (found.x != threat.start(x0)).any()


def test_equal_seeds_give_equal_bits(name: str, norm: str) -> None:
    same(whole(name, norm), run(quick(name), *problem(), threat_of(norm)))


def test_batch_and_order_change_nothing(name: str, norm: str) -> None:
    model, x0, y = problem()
    expected = whole(name, norm)
    order = torch.randperm(len(x0), generator=torch.Generator().manual_seed(0))
    for rows, batch in ((order, 13), (order[:3], 1)):
        found = run(quick(name), model, x0[rows], y[rows], threat_of(norm), ids=rows.tolist(), batch=batch)
        same(expected, found, rows)


def test_numbers_round_alike_wherever_they_are_in_a_tensor(name: str, norm: str) -> None:
    """On any machine, also one where the kernels of the last numbers happen to agree with those of the others."""
    model, x0, y = problem(rows=3)
    with Uneven() as uneven:
        run(quick(name), model, x0, y, threat_of(norm))
    assert uneven.ran == set()


@pytest.mark.parametrize("access", [Access.GRADIENT, Access.SCORES])
@pytest.mark.parametrize("queries", [1, 2, 20])
def test_the_query_budget_holds_to_the_row(name: str, norm: str, access: Access, queries: int) -> None:
    model, x0, y = problem(rows=5)
    counter = Counter(model)
    budget = Budget(queries=queries)
    found = run(quick(name), counter, x0, y, threat_of(norm), budget=budget, access=access, probes=3)
    assert found.queries.max() <= queries
    corners = need(name) is Access.LABELS  # its rows are asked about at different times, and start at a few corners
    assert corners or len(counter.batches) <= queries
    assert counter.saw(found.queries, norm == "box" or corners)


def test_refuted_rows_are_not_evaluated_again(name: str, norm: str) -> None:
    if is_minimal(quick(name)):
        pytest.skip("asks about many points and chosen rows: the counts of the budget test cover it")
    model, x0, y = problem(rows=40)
    counter, spy = Counter(model), Spy(quick(name))
    found = run(spy, counter, x0, y, threat_of(norm))
    assert counter.saw(found.queries, norm == "box")
    live = [int((found.clean_margin > 0).sum()), *(int(live.sum()) for _, live in spy.asked[1:])]
    size = threat_of(norm).start(x0).numel()
    live = [n * (x.numel() // size) for n, (x, _) in zip(live, spy.asked)]
    assert [len(batch) for batch in counter.batches[1:]] == [n + -n % TILE for n in live]
    if norm != "box" and name != "noise":
        assert found.refuted.any()


def test_scores_are_enough_where_only_scores_are_shown(name: str, norm: str) -> None:
    model, x0, y = problem()

    def scores(x: Tensor) -> Tensor:
        assert not x.requires_grad
        low, high = threat_of(norm).domain
        assert ((x >= low) & (x <= high)).all()
        return model(x)

    found = run(quick(name), scores, x0, y, threat_of(norm), access=Access.SCORES, probes=1)
    assert (found.gradients == 0).all() or need(name) is Access.GRADIENT
    if need(name) is not Access.GRADIENT:
        same(found, whole(name, norm))


def test_labels_are_enough_or_the_attack_is_refused(name: str, norm: str) -> None:
    model, x0, y = problem()
    if need(name) is not Access.LABELS:
        with pytest.raises(InputError, match=f"attack '{name}' needs {need(name)}s, and only labels are shown"):
            run(quick(name), model, x0, y, threat_of(norm), access=Access.LABELS)
        return

    def hard(x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(model(x).argmax(1), 4).to(x)

    seen, expected = run(quick(name), hard, x0, y, threat_of(norm), access=Access.LABELS), whole(name, norm)
    assert torch.equal(seen.refuted, expected.refuted)
    assert torch.equal(seen.x[seen.refuted], expected.x[seen.refuted])


def test_a_constant_model_is_never_refuted(name: str, norm: str) -> None:
    _, x0, _ = problem()
    outputs = torch.tensor([3.0, 1.0, 2.0])
    y = torch.zeros(len(x0), dtype=torch.long)
    found = run(quick(name), lambda x: outputs.expand(len(x), -1), x0, y, threat_of(norm))
    assert not found.refuted.any()
    assert torch.equal(found.x, threat_of(norm).start(inside(norm, x0)))
    assert torch.equal(found.zero_gradients, found.gradients)


def test_rows_wrong_when_clean_are_left_alone(name: str, norm: str) -> None:
    model, x0, _ = problem()
    x0 = inside(norm, x0)
    y = model(x0).argmax(1)
    wrong = torch.arange(len(x0)) % 3 == 0
    y = torch.where(wrong, (y + 1) % 4, y)
    found = run(quick(name), model, x0, y, threat_of(norm))
    assert (found.queries[wrong] == 1).all()
    assert torch.equal(found.x[wrong], threat_of(norm).start(x0)[wrong])
    assert (found.refuted[wrong] == (norm == "box")).all()
    right = run(quick(name), model, x0[~wrong], y[~wrong], threat_of(norm), ids=(~wrong).nonzero()[:, 0].tolist())
    assert torch.equal(right.x, found.x[~wrong])


def test_nan_outputs_refute_nothing(name: str, norm: str) -> None:
    model, x0, _ = problem(rows=1)
    x0 = inside(norm, x0)
    start, y = x0.clone(), model(x0).argmax(1)

    def broken(x: Tensor) -> Tensor:
        moved = (x != start).flatten(1).any(1)
        return model(x) + torch.where(moved, torch.nan, 0.0)[:, None]

    found = run(quick(name), broken, x0, y, threat_of(norm))
    assert not found.refuted.any()
    assert torch.equal(found.x, threat_of(norm).start(x0))
    assert (found.nonfinite > 0).all()
    nowhere = run(quick(name), lambda x: model(x) * torch.nan, x0, y, threat_of(norm))
    assert norm == "box" or (nowhere.queries == 1).all()
    assert not nowhere.refuted.any()


def test_vectors_are_attacked_too(name: str, norm: str) -> None:
    model, x0, y = problem()
    threat = threat_of(norm)
    if isinstance(threat, Box):
        assert threat.lower is not None
        assert threat.upper is not None
        threat = Box(lower=threat.lower.flatten(), upper=threat.upper.flatten())
    found = run(quick(name), model, x0.flatten(1), y, threat)
    assert (found.margin < found.clean_margin).any()
    assert threat.contains(x0.flatten(1), found.x)[found.refuted].all()


def test_a_radius_of_zero_refutes_nothing(name: str, norm: str) -> None:
    if norm == "box":
        pytest.skip("a box has no radius")
    model, x0, y = problem()
    found = run(quick(name), model, x0, y, threat_of(norm).at(0.0))
    assert not found.refuted.any()


def test_a_norm_it_does_not_declare_is_refused(name: str, norm: str) -> None:
    class Strange(Linf):
        norm = "strange"

    model, x0, y = problem()
    with pytest.raises(InputError, match=f"attack '{name}' works for .*, not for strange"):
        run(quick(name), model, x0, y, Strange(0.1))


@pytest.mark.parametrize("hard", [0.0, 1e6], ids=["broken", "never broken"])
def test_no_attack_asks_a_model_about_an_empty_batch(name: str, norm: str, hard: float):
    model, x0, y = problem(6)

    def strict(x: Tensor) -> Tensor:
        if len(x) == 0:
            raise ValueError("an empty batch")
        return model(x) + hard * nn.functional.one_hot(y[:1].expand(len(x)), 4)

    threat, ids = threat_of(norm), list(range(len(x0)))
    for targets in (strict(x0).argmax(1), (strict(x0).argmax(1) + 1) % 4):
        found = run(quick(name), strict, x0, targets, threat, ids=ids)
        assert len(found.margin) == 6
        if is_minimal(quick(name)):
            run(quick(name), strict, x0, targets, threat, ids=ids, closest=True)
