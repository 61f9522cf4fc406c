"""How far the nearest violation of every sample is, by mixed-integer programs: a proven bound, and a witness."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from withstand.auditing.plan import seconds_of
from withstand.auditing.question import Question, pose
from withstand.bounds.support import unboundable
from withstand.core.arguments import checked
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike

if TYPE_CHECKING:
    from withstand.verification.milp.closest import Closest


STRETCHES = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""By what share a witness is moved further from its sample until it replays."""


@dataclass(frozen=True)
class Distances:
    """Of n samples, in order. samples: each with `bound` (nothing nearer violates the property), `distance` and
    `witness` (the nearest violation found that replays in onnxruntime, inf and None where there is none) and `exact`
    (both agree up to rounding).
    """

    n: int
    samples: "Sequence[Closest]"

    @property
    def median_bound(self) -> float:
        """The distance within which half of the samples have no violation."""
        return float(torch.tensor([one.bound for one in self.samples]).median())

    @property
    def exact(self) -> int:
        """How many samples were searched to the end."""
        return sum(one.exact for one in self.samples)


@checked
def closest(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    property: str | Property = "argmax",
    *,
    limit: int | None = None,
    budget: float | str | None = None,
) -> Distances:
    """The least distance from every sample to an input of the threat's domain that violates the property.

    threat: its norm, `linf`, `l1` or `l2`, and its domain count; the radius does not. budget: wall time in seconds or
    as "10m", loading aside, of which every sample may use an equal share of what is left (none: each is searched to its
    end). Samples that are wrong when clean have distance 0. Made for networks of up to some hundreds of undecided
    neurons.

    Raises InputError when an input cannot be used, the norm is another one, or an operator of the model has no bound.
    """
    from withstand.verification.milp import closest as program

    seconds = None if budget is None else seconds_of(budget)
    with pose(model, data, threat, property, limit=limit) as question:
        graph = question.model.graph
        missing = [question.model.why_no_graph or ""] if graph is None else unboundable(graph)
        missing = [question.model.differs] if question.model.differs is not None else missing
        if missing:
            raise InputError(f"Distances from {question.model.name} cannot be bounded: {missing[0]}")
        assert graph is not None
        clock = Budget(seconds)
        norm, domain, n = question.threat.norm, question.threat.domain, len(question.data)
        found = [
            _replayed(
                question,
                row,
                program.closest(
                    graph,
                    question.x[row : row + 1],
                    question.y[row : row + 1],
                    question.property,
                    norm,
                    domain,
                    clock.share(1 / (n - row)),
                ),
            )
            for row in range(n)
        ]
    return Distances(n, found)


def _replayed(question: Question, row: int, found: "Closest") -> "Closest":
    """What was found, with a witness that violates the property in the model and in its replay, in the type that it is
    deployed in: where that found does not, it is moved on, away from the sample. None where no point so near does."""
    if found.witness is None:
        return found
    x0, y = question.x[row : row + 1], question.y[row : row + 1]
    low, high = question.threat.domain
    step = found.witness.to(x0) - x0
    free = replace(question.threat, radius=torch.inf)
    for stretch in STRETCHES:
        x = (x0 + (1 + stretch) * step).clamp(low, high)
        with torch.no_grad():
            asked = [question.property.margin(ask(x), y) for ask in (question.model, question.replay) if ask]
        if all(float(margin) <= 0 for margin in asked):
            return replace(found, witness=x, distance=max(found.bound, float(free.distance(x0, x))))
    return replace(found, witness=None, distance=math.inf, exact=False)
