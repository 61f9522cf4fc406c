"""Every objective and every addition keeps the promises that trainers, and loops of others, rely on."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from withstand.core.balls import L1, L2, Linf
from withstand.core.errors import InputError
from withstand.core.registry import components
from withstand.hardening.objective import Objective, build_objective
from withstand.hardening.state import State

OBJECTIVES = components("objective")
CASES = [(name, norm) for name, cls in OBJECTIVES.items() for norm in cls.norms or ("linf",)]
THREATS = {"linf": Linf(0.1), "l2": L2(0.7), "l1": L1(2.0)}
BASES = ("pgd", "trades")
EXTENDED = [(addition, base) for addition in components("addition") for base in BASES]

cases = pytest.mark.parametrize(("name", "norm"), CASES)
extended = pytest.mark.parametrize(("addition", "base"), EXTENDED)


def network(*, norm: bool = True, dropout: bool = False) -> nn.Sequential:
    """A small convolutional network for images [1, 6, 6] and four classes."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(0.5) if dropout else nn.Identity(),
            nn.Flatten(),
            nn.Linear(144, 12),
            nn.ReLU(),
            nn.Linear(12, 4),
        )


def batch(rows: int = 8) -> tuple[Tensor, Tensor]:
    """Images, some pixels at the domain's edges, and the classes that the network gives them."""
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(rows, 1, 6, 6, generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.1, x.round(), x)
    with torch.no_grad():
        return x, network(norm=False)(x).argmax(1)


def state_for(norm: str, mode: Any = "eval") -> State:
    state = State(THREATS[norm], seed=3, attack_mode=mode)
    state.ids = torch.arange(40, 48)
    return state


def prepared(objective: Objective, **how: bool) -> nn.Sequential:
    model = network(**how)
    objective.prepare(model)
    return model


def trace(model: nn.Module) -> dict[str, Any]:
    """All that a pass may have changed: values, gradients, flags, modes, random states."""
    return {
        **{f"value {name}": value.clone() for name, value in model.state_dict().items()},
        **{f"gradient {name}": None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "flags": [p.requires_grad for p in model.parameters()],
        "modes": [part.training for part in model.modules()],
        "forwards": ["forward" in vars(part) for part in model.modules()],
        "random": torch.get_rng_state(),
    }


def differs(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b

    assert before.keys() == after.keys()
    return [name for name in before if not same(before[name], after[name])]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters()}
    assert all(grad is not None and grad.isfinite().all() for grad in found.values()), found
    return {name: grad for name, grad in found.items() if grad is not None}


@cases
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_layer", [True, False])
def test_a_finite_loss_reaches_every_parameter(name: str, norm: str, training: bool, norm_layer: bool) -> None:
    objective = build_objective(name)
    model = prepared(objective, norm=norm_layer).train(training)
    loss = objective(model, *batch(), state_for(norm))
    assert all(p.grad is None for p in model.parameters())
    assert loss.value.shape == ()
    assert loss.value.isfinite()
    loss.value.backward()
    assert any(bool(grad.any()) for grad in gradients(model).values())


@cases
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_looking_for_points_leaves_no_trace(name: str, norm: str, mode: str) -> None:
    objective = build_objective(name)
    model = prepared(objective, dropout=True).train()
    model[0].bias.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0) if p.requires_grad else None
    model[6].eval()
    x, y = batch()
    start, before = x.clone(), trace(model)
    objective.find(model, x, y, state_for(norm, mode))
    assert differs(before, trace(model)) == []
    assert torch.equal(x, start)


@cases
def test_the_loss_changes_statistics_alone(name: str, norm: str) -> None:
    objective = build_objective(name)
    model, (x, y), state = prepared(objective).train(), batch(), state_for(norm)
    at, before = objective.find(model, x, y, state), trace(model)
    objective.loss(model, x, at, y, state)
    assert [name for name in differs(before, trace(model)) if not name.startswith("value 1.")] == []
    model.eval()
    before = trace(model)
    objective.loss(model, x, at, y, state)
    assert differs(before, trace(model)) == []


@cases
@pytest.mark.parametrize("ramp", [1.0, 0.3, 0.0])
def test_points_lie_in_the_threat(name: str, norm: str, ramp: float) -> None:
    objective = build_objective(name)
    model, (x, y), state = prepared(objective).train(), batch(), state_for(norm)
    state.ramp = ramp
    at = objective.find(model, x, y, state)
    assert at.shape == x.shape
    assert not at.requires_grad
    assert at.isfinite().all()
    assert not objective.norms or state.now.contains(x, at).all()
    assert objective.loss(model, x, at, y, state).value.isfinite()


@cases
def test_equal_states_give_equal_bits(name: str, norm: str) -> None:
    objective = build_objective(name)
    x, y = batch()
    model = prepared(objective)

    def once() -> tuple[Tensor, Tensor]:
        twin, state = copy.deepcopy(model).train(), state_for(norm)
        torch.rand(3)
        at = objective.find(twin, x, y, state)
        return at, objective.loss(twin, x, at, y, state).value

    (at, value), (again, repeated) = once(), once()
    assert torch.equal(at, again)
    assert torch.equal(value, repeated)


@cases
def test_a_row_does_not_depend_on_its_batch(name: str, norm: str) -> None:
    objective = build_objective(name)
    if objective.coupled:
        pytest.skip("looks for points in the whole batch, as it declares")
    model = prepared(objective).double().eval()
    (x, y), state = batch(), state_for(norm)
    x, ids = x.double(), state.ids
    assert ids is not None
    whole = objective.find(model, x, y, state)
    total = objective.loss(model, x, whole, y, state).value
    parts, values = [], []
    for rows in (torch.tensor([5, 0, 3, 6]), torch.tensor([1, 7, 2, 4])):
        state = state_for(norm)
        state.ids = ids[rows]
        at = objective.find(model, x[rows], y[rows], state)
        torch.testing.assert_close(at, whole[rows])
        parts.append(at)
        values.append(objective.loss(model, x[rows], at, y[rows], state).value)
    torch.testing.assert_close(torch.stack(values).mean(), total)


@cases
def test_at_a_radius_of_zero_it_is_plain_training_where_it_says_so(name: str, norm: str) -> None:
    if not OBJECTIVES[name].natural_at_zero:
        pytest.skip("does not say so")

    def trained(name: str) -> dict[str, Tensor]:
        objective, state = build_objective(name), State(THREATS[norm].at(0.0))
        model, (x, y) = prepared(objective, dropout=True).train(), batch()
        optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        torch.manual_seed(0)
        for _ in range(4):
            optimiser.zero_grad()
            objective(model, x, y, state).value.backward()
            optimiser.step()
            state.advance()
        return model.state_dict()

    plain, found = trained("natural"), trained(name)
    assert all(torch.equal(plain[key], found[key]) for key in plain)


@cases
def test_a_threat_it_does_not_take_is_refused(name: str, norm: str) -> None:
    class Strange(Linf):
        norm = "strange"

    objective = build_objective(name)
    if not objective.norms:
        pytest.skip("the threat plays no part in it")
    with pytest.raises(InputError, match=rf"^The objective '{name}' trains against .*, not against strange; "):
        objective(prepared(objective), *batch(), State(Strange(0.1)))


@cases
def test_logs_are_detached_numbers(name: str, norm: str) -> None:
    objective = build_objective(name)
    logs = objective(prepared(objective), *batch(), state_for(norm)).logs
    assert logs
    for value in logs.values():
        assert value.shape == ()
        assert not value.requires_grad


@cases
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rows_without_a_label_are_welcome_where_it_says_so(name: str, norm: str, share: float) -> None:
    objective = build_objective(name)
    if not objective.unlabelled:
        pytest.skip("does not say so")
    model, (x, y) = prepared(objective, norm=False), batch()
    y[: int(share * len(y))] = -1
    loss = objective(model, x, y, state_for(norm))
    assert loss.value.isfinite()
    loss.value.backward()
    gradients(model)


@cases
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_mixed_precision_changes_no_points(name: str, norm: str, kind: torch.dtype) -> None:
    objective = build_objective(name)
    model, (x, y) = prepared(objective).train(), batch()
    plain = objective.find(model, x, y, state_for(norm))
    with torch.autocast("cpu", dtype=kind):
        state = state_for(norm)
        at = objective.find(model, x, y, state)
        loss = objective.loss(model, x, at, y, state)
    assert torch.equal(at, plain)
    assert loss.value.isfinite()
    loss.value.backward()
    gradients(model)


@cases
def test_it_works_inside_inference_mode(name: str, norm: str) -> None:
    objective = build_objective(name)
    model, (x, y) = prepared(objective).eval(), batch()
    expected = objective.find(model, x, y, state_for(norm))
    with torch.inference_mode():
        state, inner, labels = state_for(norm), x.clone(), y.clone()
        at = objective.find(model, inner, labels, state)
        loss = objective.loss(model, inner, at, labels, state)
    assert torch.equal(at.clone(), expected)
    assert loss.value.isfinite()


@cases
def test_what_it_keeps_bears_its_name_and_no_graph(name: str, norm: str) -> None:
    objective = build_objective(name)
    state = state_for(norm)
    objective(prepared(objective).train(), *batch(), state).value.backward()
    for key, value in state.held.items():
        assert key.startswith(f"{name}.")
        assert not value.requires_grad


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_is_shown_at_least_once(name: str) -> None:
    assert build_objective(name).replays >= 1


@extended
@pytest.mark.parametrize("training", [True, False])
def test_an_addition_reaches_every_parameter(addition: str, base: str, training: bool) -> None:
    objective = build_objective(base, [addition])
    model = prepared(objective).train(training)
    before = trace(model)
    loss = objective(model, *batch(), state_for("linf"))
    changed = [name for name in differs(before, trace(model)) if not name.startswith("value ")]
    assert changed == []
    assert loss.value.shape == ()
    loss.value.backward()
    assert any(bool(grad.any()) for grad in gradients(model).values())
    assert all(value.shape == () and not value.requires_grad for value in loss.logs.values())


@extended
def test_an_addition_lets_statistics_see_what_the_loss_sees(addition: str, base: str) -> None:
    counts = []
    for additions in ([], [addition]):
        objective = build_objective(base, additions)
        model = prepared(objective).train()
        objective(model, *batch(), state_for("linf")).value.backward()
        counts.append(int(model.state_dict()["1.num_batches_tracked"]))
    assert counts[0] == counts[1]


@extended
def test_additions_are_the_same_in_equal_states(addition: str, base: str) -> None:
    objective = build_objective(base, [addition])
    model, found = prepared(objective, dropout=True), []
    for _ in range(2):
        twin = copy.deepcopy(model).train()
        torch.manual_seed(4)
        objective(twin, *batch(), state_for("linf")).value.backward()
        found.append(gradients(twin))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@extended
def test_an_addition_takes_mixed_precision_and_rows_without_a_label(addition: str, base: str) -> None:
    objective = build_objective(base, [addition])
    model, (x, y) = prepared(objective).train(), batch()
    if objective.unlabelled:
        y[::2] = -1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(model, x, y, state_for("linf"))
    loss.value.backward()
    gradients(model)


@extended
def test_an_addition_gives_a_number_inside_inference_mode(addition: str, base: str) -> None:
    objective = build_objective(base, [addition])
    model = prepared(objective).eval()
    with torch.inference_mode():
        x, y = (part.clone() for part in batch())
        assert objective(model, x, y, state_for("linf")).value.isfinite()


@pytest.mark.parametrize("addition", components("addition"))
def test_finishing_changes_no_answer(addition: str) -> None:
    objective = build_objective("natural", [addition])
    model, (x, y) = prepared(objective).train(), batch()
    objective(model, x, y, state_for("linf")).value.backward()
    done = copy.deepcopy(model.eval())
    objective.finish(done)  # type: ignore[attr-defined]
    torch.testing.assert_close(done(x), model(x))


def test_additions_can_be_stacked_and_the_first_is_innermost() -> None:
    names = list(components("addition"))
    objective = build_objective("trades", names)
    model = prepared(objective).train()
    loss = objective(model, *batch(), state_for("linf"))
    loss.value.backward()
    gradients(model)
