"""Witnesses of what the judge let pass."""

from torch import Tensor

from withstand.core.property import Property
from withstand.core.threat import Threat
from withstand.io.witness import Witness


def make_witness(
    threat: Threat,
    property: Property,
    row: tuple[int, Tensor, Tensor],
    x: Tensor,
    move: Tensor | None,
    *,
    answer: float,
    margin: float,
    method: str,
    model: str,
) -> Witness:
    """The witness that x violates a property within a threat.

    row: the sample's id, its clean input and its target. move: what makes x, in a threat of moves. answer, margin: the
    model's at x. method: who found it. model: its digest.
    """
    id, x0, y = row
    moved = {} if move is None else {"move": move.cpu().numpy()}
    return Witness(
        x0=x0.cpu().numpy(),
        x=x.cpu().numpy(),
        y=y.cpu().numpy(),
        id=id,
        property=str(property),
        norm=threat.norm,
        radius=threat.radius,
        domain=threat.domain,
        levels=threat.levels or 0,
        limits=threat.limits,
        adversarial=answer,
        margin=margin,
        method=method,
        model=model,
        **moved,
    )
