"""A batch in parts is the batch; what needs all of it is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor
from training import Replaying, digits, network, plain

from withstand.core.errors import InputError
from withstand.core.registry import components
from withstand.hardening.loader import Loader
from withstand.hardening.objective import Objective, build_objective
from withstand.hardening.state import State
from withstand.hardening.trainer import Trainer

COUPLED = [
    *(name for name, cls in components("objective").items() if cls.coupled),
    *(f"pgd with {name}" for name, cls in components("addition").items() if cls.coupled),
]
SEPARATE = [
    *(name for name, cls in components("objective").items() if not cls.coupled),
    *(f"pgd with {name}" for name, cls in components("addition").items() if not cls.coupled),
]

APPROXIMATE = {"pgd with lipschitz-penalty", "pgd with spectral-normalisation"}
"""Their norms come closer to the truth with every pass of the model."""


def made(text: str, accumulate: int, loader: Loader | None = None) -> Trainer:
    """A trainer of one step on 40 digits in float64, by an objective such as `pgd with awp`."""
    base, _, extra = text.partition(" with ")
    objective: Objective = build_objective(base, [extra] if extra else [])
    module = network().double()
    objective.prepare(module)
    x, y = digits()
    norms = objective.norms or ("linf",)
    threat = {"linf": "linf:0.1", "l2": "l2:0.5", "l1": "l1:2"}[norms[0]]
    loader = loader or Loader(x[:40].double(), y[:40], 40)
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    return Trainer(module, objective, State(threat), optimiser, loader, 1, accumulate=accumulate)


def left(trainer: Trainer) -> list[Tensor]:
    trainer.fit()
    return [p.detach() for p in trainer.module.parameters()]


@pytest.mark.parametrize("text", SEPARATE)
def test_two_parts_of_a_batch_take_the_step_of_the_batch(text: str) -> None:
    start = [p.detach().clone() for p in made(text, 1).module.parameters()]
    whole, parts = left(made(text, 1)), left(made(text, 2))
    for before, one, other in zip(start, whole, parts, strict=True):
        step = float((one - before).norm())
        assert step > 1e-5
        assert float((one - other).norm()) < (0.02 if text in APPROXIMATE else 1e-4) * step


@pytest.mark.parametrize("text", ["vat", "stability", "trades"])
def test_rows_with_and_without_a_label_are_shared_out_evenly(text: str) -> None:
    """Else a part of unlabelled rows alone would take the labels' weight away."""
    x, y = digits()
    loader = Loader(x[:30].double(), y[:30], 60, unlabelled=x[300:360].double(), share=0.5)
    for one, other in zip(left(made(text, 1, loader)), left(made(text, 3, loader)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", COUPLED)
def test_what_couples_the_rows_of_a_batch_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be cut into parts") as caught:
        made(text, 2)
    assert repr(text.rpartition(" ")[2]) in str(caught.value)
    assert str(caught.value).count(".") == 1
    made(text, 1)


def test_what_replays_a_batch_is_refused_and_the_coupled_are_those_we_know() -> None:
    settings: dict[str, Any] = {"accumulate": 2}
    base = plain("natural")
    with pytest.raises(InputError, match="'replaying', which looks at all of its rows"):
        Trainer(base.module, Replaying(), base.state, base.optimiser, base.loader, 1, **settings)
    assert set(COUPLED) == {"atld", "feature-scatter", "free", "pgd with awp", "pgd with shift-consistency"}
