"""The built-in models are there, small, and as good as their cards say."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from withstand.builtin.digits import digits_split
from withstand.builtin.models import BUILTIN, INPUT_SHAPE, builtin_model, card, weights_file
from withstand.core.balls import Linf
from withstand.core.errors import InputError
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.io.models import load_model

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train_builtin.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_builtin", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counts(name):
    """The card's table: radius to (certified, attacked) images of 500."""
    rows = re.findall(r"^\| ([\d.]+) \| .*?\((\d+) of 500\) \| .*?\((\d+) of 500\) \|$", card(name), re.MULTILINE)
    return {float(radius): (int(certified), int(attacked)) for radius, certified, attacked in rows}


@pytest.mark.parametrize("name", BUILTIN)
def test_weights_are_small_and_the_card_is_there(name):
    assert 10_000 < len(weights_file(name).read_bytes()) < 300_000
    assert card(name).startswith(f"# {name}\n")


@pytest.mark.parametrize("name", BUILTIN)
def test_clean_accuracy_is_that_of_the_card(name):
    held_out = digits_split()[1]
    right = int((builtin_model(name)(held_out.x).argmax(1) == held_out.y).sum())
    assert right == counts(name)[0.0][0] == counts(name)[0.0][1]


@pytest.mark.parametrize("name", BUILTIN)
def test_the_card_does_not_contradict_itself(name):
    table = counts(name)
    assert sorted(table) == [0.0, 0.05, 0.1]
    assert all(certified <= attacked for certified, attacked in table.values())
    assert table[0.0][1] >= table[0.05][1] >= table[0.1][1]


def test_the_three_models_tell_the_story():
    plain, pgd, cert = (counts(name) for name in BUILTIN)
    assert plain[0.0][0] >= 485
    assert plain[0.1][1] <= 250
    assert pgd[0.1][1] >= 400
    assert cert[0.1][0] >= 415
    assert cert[0.1][1] - cert[0.1][0] <= 30
    assert plain[0.1][0] < pgd[0.1][0] < cert[0.1][0]


@pytest.mark.parametrize("name", BUILTIN)
def test_loads_as_a_model_with_a_graph(name):
    model = load_model(name)
    assert model.why_no_graph is None
    assert (model.input_shape, model.output_shape) == (INPUT_SHAPE, (10,))
    x = torch.rand(3, *INPUT_SHAPE)
    assert torch.allclose(model(x), builtin_model(name)(x), atol=1e-5)


def test_a_weak_attack_breaks_no_more_than_the_card_says():
    """Ten steps leave at least as many images right as the card's strong attacks."""
    held_out = digits_split()[1]
    for name in BUILTIN:
        found = run(build("attack", "pgd:steps=10"), builtin_model(name), *held_out, Linf(0.1, (0.0, 1.0)))
        assert int((found.margin > 0).sum()) >= counts(name)[0.1][1]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("digits-cnn", marks=pytest.mark.slow),
        pytest.param("digits-cnn-pgd", marks=pytest.mark.slow),
        "digits-cnn-cert",
    ],
)
def test_the_figures_of_the_card_are_measured_again(script, name):
    """Rounding differs between processors: a sample or two may fall on the other side."""
    held_out = digits_split()[1]
    graph = script.capture(builtin_model(name), INPUT_SHAPE)
    certified, attacked = counts(name)[0.1]
    right = script.attacked(graph, held_out, 0.1)
    proved = script.proved(graph, held_out, 0.1, right)
    assert abs(int(right.sum()) - attacked) <= 2
    assert abs(int(proved.sum()) - certified) <= 1


def test_a_proof_of_the_card_must_clear_the_guard_of_the_judge(script):
    """A constant network whose margin is half the guard is not proved; with a larger margin it is."""
    layer = nn.Linear(64, 2)
    image = script.Images(torch.zeros(1, *INPUT_SHAPE), torch.tensor([0]))
    for margin, proved in ((5e-6, False), (1e-4, True)):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([1.0, 1.0 - margin]))
        graph = script.capture(nn.Sequential(nn.Flatten(), layer), INPUT_SHAPE)
        assert script.proved(graph, image, 0.1, torch.tensor([True])).tolist() == [proved]


@pytest.mark.parametrize("ask", [builtin_model, card])
def test_an_unknown_name_gets_the_near_miss(ask):
    with pytest.raises(InputError, match="did you mean 'digits-cnn-pgd'"):
        ask("digits-cnn-pdg")


def test_the_split_is_fixed():
    training, held_out = digits_split()
    assert held_out.y[:12].tolist() == [0, 4, 0, 7, 5, 5, 5, 7, 9, 7, 0, 6]
    assert training.x.shape == (1297, *INPUT_SHAPE)
    assert round(float(training.x.double().sum() + held_out.x.double().sum()) * 16) == 561_718


@pytest.mark.parametrize("name", BUILTIN)
def test_every_model_has_a_recipe_that_its_card_tells(script, name):
    recipe = script.RECIPES[name]
    assert recipe.build()
    told = " ".join(card(name).split())
    assert f"**Recipe**: {recipe}" in told
