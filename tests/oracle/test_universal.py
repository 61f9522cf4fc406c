"""Universal attacks against what is known of them, and fits that are killed and go on."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from measured import measured
from torch import Tensor, nn

import withstand
from withstand.auditing.attacking import attack
from withstand.core.balls import L2, Linf
from withstand.core.errors import InputError
from withstand.core.flow_linf import FlowLinf
from withstand.core.patch import Patch
from withstand.core.registry import build
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.spatial import Flow, roughness
from withstand.core.threat import Threat
from withstand.core.universal import Fitted, State, fooling_rate, predictions

CASES = [
    ("uap:epochs=3,batch=8", Linf(0.1)),
    ("uap:epochs=3,batch=8", L2(0.6)),
    ("uap:method=deepfool,epochs=2,share=1", Linf(0.1)),
    ("guap:epochs=3,batch=8", FlowLinf(tau=0.3, eps=0.1)),
    ("guap:epochs=2,batch=8", Flow(0.4)),
    ("guap:epochs=2,batch=8", Linf(0.1)),
    ("patch:epochs=3,batch=8", Patch(window=(4, 3))),
]
each = pytest.mark.parametrize(("text", "threat"), CASES, ids=lambda part: str(part))


def problem(rows: int = 24) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 4)).requires_grad_(False)
        return net, torch.rand(rows, 1, 8, 8)


def fitted(text: str, model: Any, x: Tensor, threat: Threat, state: State | None = None) -> Fitted:
    method = build("universal", text)
    for reached in method.fit(model, x, threat, 0, state):
        state = reached
    assert state is not None
    return Fitted(text, method, state)


def applied(found: Fitted, x0: Tensor, threat: Threat) -> Tensor:
    return found.method.apply(found.state, x0, threat, RowRandom(row_seeds(0, range(len(x0)), "apply")))


def equal(a: State, b: State) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@each
def test_a_fit_that_was_interrupted_ends_where_the_whole_one_does(text: str, threat: Threat) -> None:
    model, x = problem()
    method = build("universal", text)
    states = list(method.fit(model, x, threat, 0, None))
    for done in range(1, len(states)):
        first = list(islice(method.fit(model, x, threat, 0, None), done))[-1]
        equal(list(method.fit(model, x, threat, 0, first))[-1], states[-1])
    assert list(method.fit(model, x, threat, 0, states[-1])) == []
    assert int(states[-1]["epoch"]) == len(states)


@each
def test_points_are_inside_and_the_models_class_is_what_is_fooled(text: str, threat: Threat) -> None:
    model, x = problem()
    found = fitted(text, model, x[:16], threat)
    for around in (threat, threat.at(threat.radius / 2)):
        assert around.contains(x, applied(found, x, around)).all()
    changed = predictions(model, threat.deploy(x, applied(found, x, threat))) != predictions(model, x)
    rate = fooling_rate(model, found, x, threat)
    assert "patch" in text or math.isclose(rate, float(changed.double().mean()))
    assert fooling_rate(lambda x: torch.ones(len(x), 3), found, x, threat) == 0


def line(scale: float = 1.0) -> tuple[nn.Module, Tensor, Tensor]:
    """Two classes split by a plane, inputs all on one side of it, and its normal."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        w, x = torch.randn(30), 0.4 + 0.2 * torch.rand(60, 30)
    net = nn.Linear(30, 2).requires_grad_(False)
    net.weight.copy_(torch.stack([w, -w]) * scale / 2)
    net.bias.copy_(torch.tensor([1.0, -1.0]) * (0.05 - float((x @ w).min())) * scale / 2)
    return net, x, w


@pytest.mark.parametrize("text", ["uap", "uap:method=deepfool,epochs=3,share=1"])
@pytest.mark.parametrize("threat", [Linf(0.03), L2(0.12)], ids=lambda t: t.norm)
def test_uap_fools_all_that_one_change_can_on_a_linear_model(text: str, threat: Threat) -> None:
    net, x, w = line()
    margin = (net(x)[:, 0] - net(x)[:, 1]).double()
    reach = threat.radius * float(torch.linalg.vector_norm(w.double(), 1 if threat.norm == "linf" else 2))
    share = float((margin < reach).double().mean())
    assert 0.1 < share < 0.95
    found = fitted(text, net, x, threat)
    rate = fooling_rate(net, found, x, threat)
    assert rate <= share + 1e-9
    assert rate >= (share if text == "uap" else 0.8 * share)


def test_the_change_keeps_to_its_radius_exactly_and_is_the_same_for_all() -> None:
    model, x = problem()
    found = fitted("uap:epochs=3", model, x[:12], Linf(0.1))
    change = found.state["change"]
    assert float(change.abs().max()) <= torch.tensor(0.1)
    expected = (x + change).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    assert torch.equal(applied(found, x, Linf(0.1)), expected)
    round_ = fitted("uap:epochs=3", model, x[:12], L2(0.6))
    assert float(round_.state["change"].double().norm()) <= 0.6 * (1 + 1e-6)


def test_guap_moves_all_alike_by_tau_exactly_and_changes_by_eps_at_most() -> None:
    model, x = problem()
    both = FlowLinf(tau=0.3, eps=0.1)
    move = fitted("guap:epochs=2", model, x, both).state["move"]
    assert move.shape == (1, 3, 8, 8)
    assert math.isclose(float(roughness(move[:, :2])), 0.3, rel_tol=1e-5)
    assert float(move[:, 2:].abs().max()) <= 0.1
    spatial = applied(fitted("guap:epochs=2", model, x, Flow(0.3)), x, Flow(0.3))
    assert (spatial == spatial[:1]).all()
    even = torch.full((3, 1, 8, 8), 0.5)
    assert torch.equal(Flow(0.3).render(even, spatial[:3]), even)
    additive = applied(fitted("guap:epochs=2", model, x, Linf(0.1)), x, Linf(0.1))
    assert float((additive - x).abs().max()) <= 0.1 + 1e-7
    nothing = FlowLinf(tau=0.0, eps=0.0)
    still = fitted("guap:epochs=1", model, x, nothing)
    assert fooling_rate(model, still, x, nothing) == 0


def test_guap_learns() -> None:
    model, x = problem(60)
    threat = FlowLinf(tau=0.3, eps=0.15)
    method = build("universal", "guap:epochs=12,batch=20")
    rates = [float(state["fooled"]) for state in method.fit(model, x, threat, 0, None)]
    assert rates == sorted(rates)
    assert rates[-1] > 0.3


def test_pixels_outside_the_patch_do_not_change_and_places_differ() -> None:
    model, x = problem(40)
    threat = Patch(window=(4, 3))
    found = fitted("patch:epochs=2", model, x, threat)
    changed = applied(found, x, threat) != x
    assert (threat.distance(x, applied(found, x, threat)) <= 1).all()
    assert (changed.flatten(1).sum(1) <= 12).all()
    assert len({tuple(row.flatten().nonzero().flatten().tolist()) for row in changed}) > 10
    assert torch.equal(applied(found, x[3:5], threat)[0], applied(found, x[3:5], threat)[0])
    blank = {**found.state, "patch": torch.rand_like(found.state["patch"])}
    assert fooling_rate(model, found, x, threat) >= fooling_rate(model, Fitted("patch", found.method, blank), x, threat)


def labelled() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model, x = problem(30)
    return model, (x, model(x).argmax(1))


def test_universal_attacks_run_beside_others_on_the_second_half() -> None:
    model, (x, y) = labelled()
    result = attack(model, (x, y), "linf:0.1", ["uap:epochs=3", "pgd:steps=5"])
    assert result.n == 15
    figures = result.universal["uap:epochs=3"]
    assert figures.fitted_on == 15
    found = fitted("uap:epochs=3", model, x[:15], Linf(0.1))
    assert math.isclose(figures.fooling_rate, fooling_rate(model, found, x[15:], Linf(0.1)))
    assert math.isclose(measured(result.attacks["uap:epochs=3"].attacked_accuracy), 1 - figures.fooling_rate)
    assert measured(result.attacked_accuracy) <= measured(result.attacks["uap:epochs=3"].attacked_accuracy)
    assert result.to_json()["universal"]["uap:epochs=3"]["epochs"] == 3
    other = attack(model, (x, y), "linf:0.1", ["uap:epochs=3"], train=(x[:15], y[:15]))
    assert other.n == 30


@pytest.mark.parametrize("threat", ["flow+linf:0.3,0.1", pytest.param("flow:0.4", marks=pytest.mark.slow)])
def test_a_run_folder_keeps_fits_and_their_witnesses_replay(tmp_path: Path, threat: str) -> None:
    model, data = labelled()
    text = "guap:epochs=2"
    first = attack(model, data, threat, [text], out=tmp_path / "run")
    (state,) = (tmp_path / "run" / "universal").iterdir()
    written = state.read_bytes()
    again = attack(model, data, threat, [text], out=tmp_path / "run")
    assert state.read_bytes() == written
    assert again.refuted == first.refuted
    assert again.universal[text].fooling_rate == first.universal[text].fooling_rate
    for witness in (tmp_path / "run" / "witnesses").glob("*.npz"):
        assert withstand.replay(witness).reproduced
    assert withstand.check(tmp_path / "run", model, data).ok
    state.write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be read; remove it and the fit begins anew"):
        attack(model, data, threat, [text], out=tmp_path / "run")


def test_what_universal_attacks_refuse() -> None:
    model, data = labelled()
    for changes, sentence in (
        ({"access": "scores"}, "'uap' is fitted with gradients, and only scores are shown"),
        ({"attacks": ["pgd"], "train": data}, "is for universal attacks, and none is named"),
        ({"limit": 1}, "is fitted on one half of the data; give two samples or more"),
        ({"threat": "l1:1"}, "'uap' works for linf, l2, not for l1"),
        ({"property": "band:0.5"}, "walks down ce"),
    ):
        asked = {"threat": "linf:0.1", "attacks": ["uap"], **changes}
        with pytest.raises(InputError, match=sentence):
            attack(model, data, **asked)  # type: ignore[arg-type]
