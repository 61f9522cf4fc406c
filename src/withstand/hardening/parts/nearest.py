"""The nearest points in l2 at which a margin is lost, by DDN, for objectives that train there."""

from collections.abc import Callable

from torch import Tensor, nn

from withstand.attacks.ddn import DDN, pace, resized, walked
from withstand.attacks.parts.nearest import Best, width
from withstand.hardening.parts.ascent import looking, slope
from withstand.hardening.state import State

OWN = DDN()
"""Its first radius, the change of it and the steps' lengths, which are those of the authors of SmoothAdv too."""


def nearest(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    margin: Callable[[Tensor], Tensor],
    x: Tensor,
    state: State,
    *,
    steps: int,
) -> Tensor:
    """Points of the threat, in l2, around x [B, *shape]: the nearest ones that a walk of so many steps up `loss` finds
    with a `margin` of at most zero, both from outputs to a number a row [B].

    Those farther away than the radius in force are pulled back to it, and a row without any gets x itself. Of a radius
    of zero, x itself. Raises InputError when the model has no gradient.
    """
    threat = state.now
    if threat.radius == 0:
        return x
    margins: list[Tensor] = []

    def height(point: Tensor) -> Tensor:
        outputs = model(point)
        margins.append(margin(outputs.detach()))
        return loss(outputs).sum()

    with looking(model, x, state) as x:
        scale, at, best = width(threat), x, Best(threat, x)
        radius = x.new_full((len(x),), OWN.radius * scale)
        for turn in range(steps):
            grad = slope(height, at)
            best.see(at, margins[-1])
            radius = resized(radius, margins[-1], OWN.gamma)
            at = walked(threat, x, at, -grad, pace(OWN.step, turn, steps) * scale, radius)
        return threat.project(x, best.x).detach()
