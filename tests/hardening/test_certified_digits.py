"""Certified training on the digits: what short runs reach, from both sides."""

import pytest
import torch
from torch import Tensor, nn

from withstand.builtin.digits import digits_split
from withstand.builtin.models import architecture
from withstand.core.evidence import Grade
from withstand.core.judge import needed
from withstand.core.property import Argmax
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.bounds import lower_bound
from withstand.core.balls import Linf
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


def sides(module: nn.Module, method: str) -> tuple[float, float, float]:
    """Shares of the held-out images that are right, right under PGD, and proved."""
    _, images = digits_split()
    graph = capture(module, images.x.shape[1:])
    with torch.no_grad():
        outputs = graph(images.x)
        rows = Argmax().rows(images.y, 10)
        low = rows.combine(lower_bound(method, graph, Linf(RADIUS), images.x, rows))  # type: ignore[arg-type]
    proved = low > needed(Grade.FLOAT32, outputs)
    attack = build("attack", "pgd:steps=20,restarts=1")
    found = run(attack, graph, images.x, images.y, Linf(RADIUS), ids=range(len(images.x)))
    held = found.margin > 0
    assert not bool((proved & ~held).any())
    return float((outputs.argmax(1) == images.y).float().mean()), share(held), share(proved)


def share(rows: Tensor) -> float:
    return float(rows.float().mean())


@pytest.mark.parametrize(
    ("text", "epochs", "method", "clean", "certified"),
    [
        ("natural", 20, "ibp", 0.9, 0.0),
        ("ibp:start=shi", 20, "ibp", 0.8, 0.6),
        ("crown-ibp:start=shi", 20, "ibp", 0.8, 0.6),
        ("sabr:start=shi,share=0.6,steps=3,step=0.5", 20, "ibp", 0.8, 0.6),
        ("mtl-ibp:start=shi,steps=3,step=0.5", 20, "ibp", 0.8, 0.6),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else None,
)
def test_what_a_short_training_reaches(text: str, epochs: int, method: str, clean: float, certified: float) -> None:
    right, held, proved = sides(train(text, epochs), method)
    print(text, right, held, proved)
    assert right > clean
    assert proved <= held <= right
    assert proved >= certified
