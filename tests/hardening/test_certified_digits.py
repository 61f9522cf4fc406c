"""Certified training on the digits: what short runs reach, from both sides."""

import pytest
import torch
from torch import Tensor, nn

from withstand.bounds import lower_bound
from withstand.builtin.digits import digits_split
from withstand.builtin.models import architecture
from withstand.core.balls import Linf
from withstand.core.evidence import Grade
from withstand.core.judge import needed
from withstand.core.property import Argmax
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.graph.capture import capture
from withstand.hardening.state import State

RADIUS = 0.05


def train(text: str, epochs: int) -> nn.Module:
    """The built-in architecture after so many epochs against linf .05, the radius growing over the first half."""
    torch.manual_seed(0)
    module, objective, state = architecture(), build("objective", text), State(f"linf:{RADIUS}")
    images, _ = digits_split()
    objective.prepare(module)
    steps = epochs * -(-len(images.x) // 128)
    optimiser = torch.optim.Adam(module.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images.x)).split(128):
            state.ids, state.ramp = rows, min(1.0, 2 * state.done)
            optimiser.zero_grad()
            objective(module, images.x[rows], images.y[rows], state).value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 8.0)
            optimiser.step()
            schedule.step()
            state.advance((state.step + 1) / steps)
    return module.eval()


def sides(module: nn.Module) -> tuple[float, float, float]:
    """Shares of the held-out images that are right, right under PGD, and proved by intervals."""
    _, images = digits_split()
    graph = capture(module, images.x.shape[1:])
    with torch.no_grad():
        outputs = graph(images.x)
        rows = Argmax().rows(images.y, 10)
        low = rows.combine(lower_bound("ibp", graph, Linf(RADIUS), images.x, rows))
    proved = low > needed(Grade.FLOAT32, outputs)
    attack = build("attack", "pgd:steps=20,restarts=1")
    found = run(attack, graph, images.x, images.y, Linf(RADIUS), ids=range(len(images.x)))
    held = found.margin > 0
    assert not bool((proved & ~held).any())
    return share(outputs.argmax(1) == images.y), share(held), share(proved)


def share(rows: Tensor) -> float:
    return float(rows.float().mean())


@pytest.mark.parametrize(
    "text",
    [
        "ibp:start=shi",
        pytest.param("crown-ibp:start=shi", marks=pytest.mark.slow),
        pytest.param("sabr:start=shi,steps=2,step=0.6", marks=pytest.mark.slow),
        pytest.param("mtl-ibp:start=shi,steps=2,step=0.6", marks=pytest.mark.slow),
    ],
    ids=lambda text: text.partition(":")[0],
)
def test_what_a_short_training_proves(text: str) -> None:
    right, held, proved = sides(train(text, 10))
    assert right > 0.65
    assert proved <= held <= right
    assert proved > 0.3
