"""The mean loss of a model over distributions near its data: what is reached, and what is certified."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from withstand.auditing.question import pose
from withstand.bounds.smoothness import smoothness
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.graph.model import Model
from withstand.hardening.risk import Bound, Surrogate, bounds, default_gammas, sharpest, surrogate
from withstand.io.data import DataLike
from withstand.io.models import ModelLike

BATCH = 250
"""Samples that are moved at a time."""


@dataclass(frozen=True)
class Risk:
    """Of n samples, in float64. clean: their mean cross-entropy. bounds: one for each rho asked about. smooth: a proven
    bound of how fast the cross-entropy turns anywhere, or None, and `why` says why. sharpest: how fast it turns at the
    samples, an estimate from below. surrogates: one for each gamma tried.

    These are statements about distributions near the n samples, not near the population they were drawn from.
    """

    n: int
    clean: float
    bounds: Sequence[Bound]
    smooth: float | None
    why: str | None
    sharpest: float
    surrogates: Sequence[Surrogate]

    def to_json(self) -> dict[str, Any]:
        """All numbers by name."""
        return dataclasses.asdict(self)


@checked
def risk(
    model: ModelLike,
    data: DataLike,
    rho: float | Sequence[float],
    *,
    gamma: float | Sequence[float] | None = None,
    limit: int | None = None,
    device: str = "cpu",
) -> Risk:
    """How large the mean cross-entropy of a model can become when the data moves as far as a transport cost of rho, the
    mean squared l2 distance (Sinha, Namkoong and Duchi 2018, arXiv:1710.10571).

    rho: one or several. gamma: those to try; the best counts for each rho (unless given: some near the best of a linear
    loss, and the least that give certificates). The inputs may leave their domain, so the bounds hold all the more for
    distributions inside it. A certificate needs a network of smooth activations, and 2 gamma above its smoothness.

    Raises InputError when an input cannot be used, rho is negative or a gamma is not positive.
    """
    rhos = [float(one) for one in (rho if isinstance(rho, Sequence) else [rho])]
    given = [float(one) for one in (gamma if isinstance(gamma, Sequence) else [] if gamma is None else [gamma])]
    if not rhos or not all(0 <= one < float("inf") for one in rhos):
        raise InputError("A transport cost must be zero or a positive number; give one or several.")
    if not all(0 < one < float("inf") for one in given):
        raise InputError("gamma must be a positive number; leave it out to have some tried.")
    with pose(model, data, "l2:1", limit=limit, device=device) as question:
        smooth, why = _smoothness(question.model)
        answer = _in_float64(question.model, question.x[:1])
        parts = [(x.double(), _row_loss(answer, y)) for x, y in zip(question.x.split(BATCH), question.y.split(BATCH))]
        n = len(question.x)
        weights = [len(x) / n for x, _ in parts]
        with torch.no_grad():
            clean = sum(float(loss(x).sum()) for x, loss in parts) / n
        gammas = given or sorted({g for x, loss in parts[:1] for g in default_gammas(loss, x, rhos, smooth)})
        tried = [_mean([surrogate(loss, x, one, smooth) for x, loss in parts], weights) for one in gammas]
        turning = max(float(sharpest(loss, x).max()) for x, loss in parts)
    return Risk(n, clean, bounds(clean, tried, rhos), smooth, why, turning, tried)


def _smoothness(model: Model) -> tuple[float | None, str | None]:
    if model.graph is None or model.differs is not None:
        return None, model.why_no_graph or model.differs
    try:
        return smoothness(model.graph), None
    except InputError as error:
        return None, str(error)


def _in_float64(model: Model, x: Tensor) -> torch.nn.Module:
    """The model's function in float64. x [1, *shape]: an input to try it on."""
    if model.differs is not None:
        raise InputError(f"The risk of {model.name} cannot be bounded: {model.differs}")
    answer = copy.deepcopy(model.module if model.graph is None else model.graph).double().requires_grad_(False)
    try:
        answer(x.double())
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"The risk is reckoned in float64, in which {model.name} does not run ({reason}); give a network of floats."
        ) from error
    return answer


def _row_loss(answer: torch.nn.Module, y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda z: F.cross_entropy(answer(z), y, reduction="none")


def _mean(parts: Sequence[Surrogate], weights: Sequence[float]) -> Surrogate:
    """The surrogate of all samples from those of parts of them."""

    def mean(values: Sequence[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights))

    above = [one.above for one in parts if one.above is not None]
    return Surrogate(
        parts[0].gamma,
        mean([one.below for one in parts]),
        mean(above) if len(above) == len(parts) else None,
        mean([one.cost for one in parts]),
        mean([one.loss for one in parts]),
    )
