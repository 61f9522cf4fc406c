"""Recipes: parameters by kind of data, and the torch objects they stand for."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from withstand.core.errors import InputError
from withstand.core.registry import build, components, name_of
from withstand.hardening.objective import Combined, build_objective
from withstand.hardening.recipe import Recipe
from withstand.hardening.recipes import BASE, TABLE, kind_of, recipe_for


def rates(recipe: Recipe, steps: int) -> list[float]:
    optimiser, schedule = recipe.optimise(nn.Linear(2, 2), steps)
    found = []
    for _ in range(steps + 1):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("kind", "name"), TABLE)
def test_every_recipe_of_the_table_builds(kind: str, name: str) -> None:
    recipe = recipe_for(name, kind)  # type: ignore[arg-type]
    assert name_of(recipe.build()) == name
    assert recipe.source in str(recipe)
    rates(replace(recipe, epochs=1), 10)


@pytest.mark.parametrize("name", components("objective"))
@pytest.mark.parametrize("kind", BASE)
def test_every_objective_has_a_recipe_for_every_kind(kind: str, name: str) -> None:
    assert name_of(recipe_for(name, kind).build()) == name  # type: ignore[arg-type]


def test_parameters_given_win_over_those_of_the_data() -> None:
    assert recipe_for("trades", "mnist").build() == build("objective", "trades:beta=1,steps=40,step=0.03333")
    assert recipe_for("trades:beta=2", "mnist").build() == build("objective", "trades:beta=2,steps=40,step=0.03333")


def test_what_kind_data_is_of() -> None:
    assert kind_of((1, 28, 28), 10) == "mnist"
    assert kind_of((3, 32, 32), 10) == "cifar10"
    assert kind_of((3, 32, 32), 100) == "other"
    assert kind_of((30,), 2) == "other"


def test_schedules_of_the_rate() -> None:
    base = Recipe("natural", optimiser="sgd", rate=2.0)
    assert rates(replace(base, schedule="constant"), 4) == [2.0] * 5
    drops = rates(replace(base, schedule="drops", drops=(0.5, 0.75)), 4)
    assert drops == pytest.approx([2, 2, 0.2, 0.02, 0.02])
    assert rates(replace(base, schedule="cosine"), 4) == pytest.approx([2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0])
    triangle = rates(replace(base, schedule="triangle", peak=0.5), 4)
    assert triangle == pytest.approx([0.08, 1.04, 2, 1, 0])
    hill = rates(replace(base, schedule="one-cycle", peak=0.5), 100)
    assert max(hill) == hill[50] == pytest.approx(2.0)
    assert hill[:51] == sorted(hill[:51])
    assert hill[50:] == sorted(hill[50:], reverse=True)


def test_only_parameters_that_learn_are_optimised() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    optimiser, _ = Recipe("natural").optimise(module, 3)
    assert {id(p) for p in optimiser.param_groups[0]["params"]} == {id(p) for p in module[1].parameters()}


def test_weights_decay_as_told() -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 3, bias=False)
    before = module.weight.detach().clone()
    optimiser, _ = Recipe("natural", optimiser="sgd", rate=0.5, decay=0.1, schedule="constant").optimise(module, 1)
    module.weight.grad = torch.zeros_like(module.weight)
    optimiser.step()
    assert torch.allclose(module.weight, before * 0.95)


def test_unknown_words_name_the_near_miss() -> None:
    with pytest.raises(InputError, match="did you mean 'trades'"):
        recipe_for("trade", "mnist")
    with pytest.raises(InputError, match="did you mean 'beta'"):
        recipe_for("trades:bta=3", "mnist")
    with pytest.raises(InputError, match="There is no addition"):
        recipe_for("pgd", "mnist", ["no-such-thing"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rate": float("nan")}, "positive"),
        ({"rate": float("inf")}, "positive"),
        ({"rate": 0.0}, "positive"),
        ({"rate": -1.0}, "positive"),
        ({"epochs": 0}, "positive"),
        ({"clip": -1.0}, "positive"),
        ({"decay": -0.1}, "from 0 to below 1"),
        ({"average": 1.0}, "from 0 to below 1"),
        ({"ramp": (0.5, 0.2)}, "in order"),
        ({"optimiser": "rmsprop"}, "choose adam, sgd"),
        ({"schedule": "linear"}, "choose constant"),
        ({"augment": "flip"}, "choose none"),
    ],
)
def test_words_and_numbers_that_no_recipe_has_are_refused(changes: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        Recipe("pgd", **changes)


def test_an_addition_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'awp' is given twice"):
        build_objective("pgd", ["awp", "weight-l1", "awp:gamma=0.1"])


def test_a_recipe_without_additions_is_its_objective() -> None:
    assert not isinstance(Recipe("pgd").build(), Combined)
