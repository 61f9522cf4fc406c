"""What a model withstands on a batch: the same in every gradient mode, and the exact answer for a linear model."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from withstand.builtin.digits import digits_split
from withstand.builtin.models import builtin_model
from withstand.hardening.objective import build_objective
from withstand.hardening.standing import standing
from withstand.hardening.state import State

MODES = {"plain": nullcontext, "no-grad": torch.no_grad, "inference": torch.inference_mode}


def batch(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    data = digits_split()[1]
    return data.x[:count].clone(), data.y[:count].clone()


@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_same_in_every_gradient_mode(mode: str) -> None:
    model, (x, y) = builtin_model("digits-cnn"), batch()
    outside = standing(model, x, y, "linf:0.1")
    with MODES[mode]():
        inside = standing(model, x.clone(), y.clone(), "linf:0.1")
    assert torch.equal(inside.clean, outside.clean)
    assert torch.equal(inside.robust, outside.robust)
    assert 0 < int(inside.robust.sum()) < int(inside.clean.sum())
    assert not bool((inside.robust & ~inside.clean).any())


def test_a_linear_model_withstands_what_its_margin_says() -> None:
    model = nn.Linear(3, 2)
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    y = torch.randint(2, (200,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = model(x)
        margin = outputs.gather(1, y[:, None])[:, 0] - outputs.gather(1, 1 - y[:, None])[:, 0]
        cost = 0.05 * float((model.weight[0] - model.weight[1]).abs().sum())
    found = standing(model, x, y, "linf:0.05")
    sure = (margin - cost).abs() > 1e-5
    assert torch.equal(found.robust[sure], (margin > cost)[sure])
    assert torch.equal(found.clean, margin > 0)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 10))
    model[2].eval()
    held = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with torch.inference_mode():
        standing(model, *batch(8), "linf:0.1")
    assert [part.training for part in model] == [True, True, False, True, True]
    assert all(torch.equal(held[name], value) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("text", ["pgd", "trades", "fgsm"])
def test_the_loss_of_an_objective_can_be_told_in_inference_mode(text: str) -> None:
    model, objective = builtin_model("digits-cnn"), build_objective(text)
    x, y = batch(16)
    outside = objective(model, x, y, State("linf:0.1")).value.detach()
    with torch.inference_mode():
        inside = objective(model, x.clone(), y.clone(), State("linf:0.1")).value
        assert torch.allclose(inside, outside, rtol=1e-5)
