"""Findings on masked gradients: on networks that mask, that do not, and that may seem to."""

import functools

import pytest
import torch
from masked import Adaptive, Confident, GradientKiller, Noisy, Rounding, WrongSlope
from torch import nn

import withstand
from withstand.auditing.masking.check import suspected
from withstand.auditing.masking.features import features_of
from withstand.auditing.masking.planted import separate
from withstand.builtin.models import builtin_model
from withstand.core.errors import InputError
from withstand.core.records import Check
from withstand.io.models import load_model

FIRST_FIVE = ("one step against many", "convergence", "larger radii", "black box", "random noise")
Findings = dict[str, Check]


def look(model: nn.Module | str, limit: int = 24, queries: int = 60, **more) -> Findings:
    checks = withstand.masking(model, "digits", "linf:0.1", limit=limit, steps=20, queries=queries, **more)
    return {check.name: check for check in checks}


@functools.cache
def undefended() -> nn.Sequential:
    return builtin_model("digits-cnn")


@pytest.fixture(scope="module")
def killed() -> Findings:
    return look(GradientKiller(undefended()))


@pytest.mark.parametrize("name", ["digits-cnn", pytest.param("digits-cnn-pgd", marks=pytest.mark.slow)])
def test_honest_networks_pass(name: str) -> None:
    found = look(name, limit=40)
    assert suspected(list(found.values())) == []
    assert {check: found[check].outcome for check in FIRST_FIVE} == dict.fromkeys(FIRST_FIVE, "pass")
    assert {check.outcome for check in found.values()} == {"pass", "note"}


def test_swallowed_gradients_fail(killed: Findings) -> None:
    for name in ("black box", "gradient health", "finite differences", "planted example", "larger radii"):
        assert killed[name].outcome == "fail", name
    assert len(killed["black box"].samples) > 1
    assert killed["module and graph"].outcome == "note"


def test_no_number_is_removed(killed: Findings) -> None:
    """What blind attacks broke counts in the attacked accuracy, example by example."""
    blind = set(killed["black box"].samples) | set(killed["random noise"].samples)
    together = killed["all attacks"].figures
    by_gradients = killed["random noise"].figures["gradient_accuracy"]
    assert together["attacked_accuracy"] == pytest.approx(by_gradients - len(blind) / together["samples"])
    assert together["passes_a_sample"] == (together["forward"] + together["backward"]) / together["samples"]


@pytest.mark.slow
def test_rounded_inputs_fail() -> None:
    found = look(Rounding(undefended()))
    assert {found[name].outcome for name in ("black box", "gradient health", "finite differences")} == {"fail"}


@pytest.mark.slow
def test_a_gradient_that_is_not_the_slope_fails() -> None:
    found = look(WrongSlope(undefended()))
    assert found["gradient health"].outcome == "pass"
    assert found["finite differences"].outcome == "fail"
    assert found["finite differences"].figures["median_relative_error"] > 0.5


@pytest.mark.slow
def test_a_saturated_loss_warns() -> None:
    found = look(Confident(builtin_model("digits-cnn-pgd")), limit=80, queries=5)
    assert found["gradient health"].outcome == "warn"
    assert found["gradient health"].figures["ce_accuracy"] > found["gradient health"].figures["margin_accuracy"]


@pytest.mark.slow
def test_random_outputs_warn() -> None:
    found = look(Noisy(undefended()))
    assert found["determinism"].outcome == "warn"
    assert found["finite differences"].outcome == "note"


@pytest.mark.parametrize("functional", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_autograd_in_forward_warns(functional: bool) -> None:
    assert look(Adaptive(undefended(), functional), limit=10, queries=5)["autograd in forward"].outcome == "warn"


def test_probabilities_warn() -> None:
    assert look(nn.Sequential(undefended(), nn.Softmax(1)), limit=10, queries=5)["logits"].outcome == "warn"


@pytest.mark.slow
def test_adversarial_examples_of_another_model_count(killed: Findings) -> None:
    assert killed["transfer"].outcome == "note"
    found = look(GradientKiller(undefended()), queries=1, surrogate="digits-cnn")
    assert found["transfer"].outcome == "fail"
    assert len(found["transfer"].samples) > 5


@pytest.mark.parametrize("threat", ["flow:0.2", "patch:2x2", "l0:3"])
def test_checks_that_do_not_apply_say_so(threat: str) -> None:
    found = withstand.masking("digits-cnn", "digits", threat, limit=8, steps=4, queries=4)
    planted = next(check for check in found if check.name == "planted example")
    assert planted.outcome == "note"
    assert planted.sentence.startswith("Not looked at: ")
    assert len(found) == 15


def test_a_planted_point_is_told_apart_as_a_dense_ridge_solution_would() -> None:
    torch.manual_seed(0)
    inside, edge = torch.randn(3, 20, 30, dtype=torch.float64), torch.randn(3, 30, dtype=torch.float64)
    heads = separate(inside, edge)
    assert bool(heads.planted.all())
    scores = torch.einsum("nmd,nd->nm", inside, heads.weight)
    torch.testing.assert_close((edge * heads.weight).sum(1) - scores.amax(1), torch.ones(3, dtype=torch.float64))
    assert bool((scores < heads.threshold[:, None]).all())
    spread = inside - inside.mean(1, keepdim=True)
    ridge = 1e-3 * spread.square().sum(2).mean(1)
    dense = torch.einsum("nmd,nme->nde", spread, spread) + 20 * ridge[:, None, None] * torch.eye(30)
    weight = torch.linalg.solve(dense, (edge - inside.mean(1))[:, :, None]).squeeze(2)
    cosine = torch.nn.functional.cosine_similarity(weight, heads.weight)
    torch.testing.assert_close(cosine, torch.ones(3, dtype=torch.float64))


def test_a_point_among_the_others_is_not_planted() -> None:
    inside = torch.tensor([[[0.0], [1.0], [2.0]]])
    assert not bool(separate(inside, torch.tensor([[1.0]])).planted.any())


def test_features_are_what_the_last_linear_layer_reads() -> None:
    net, x = undefended(), torch.rand(3, 1, 8, 8)
    features, where = features_of(load_model(net, (1, 8, 8)), x[:1])
    assert where == "input of the last linear layer"
    torch.testing.assert_close(net[-1](features(x)), net(x))


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(InputError, match="at least 1 step"):
        withstand.masking("digits-cnn", "digits", "linf:0.1", steps=0)
    with pytest.raises(InputError, match="surrogate reads"):
        withstand.masking("digits-cnn", "digits", "linf:0.1", limit=4, surrogate=load_model(nn.Linear(64, 10), (64,)))
