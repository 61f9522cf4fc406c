"""What theory says of a trained model: weight correlation, and PAC-Bayes bounds on the error on unseen data."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from withstand.auditing.question import with_classes
from withstand.bounds.margin import lower_bound
from withstand.bounds.support import unboundable
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.property import Argmax
from withstand.core.threat import Threat
from withstand.core.threat_text import parse_threat
from withstand.generalisation.bound import Bound
from withstand.generalisation.checks import check_positive, check_share
from withstand.generalisation.correlation import correlation_divergence, is_correlated, weight_correlation
from withstand.generalisation.gibbs import Errors, gibbs_risk, wrong
from withstand.generalisation.layers import Layer, graph_of, held_fixed, layers_of, vector
from withstand.generalisation.pac_bayes import all_bounds, gaussian_kl
from withstand.graph.ir import Graph
from withstand.graph.model import Model
from withstand.io.data import Data, DataLike, arrange, load_data
from withstand.io.domains import into_domain
from withstand.io.models import ModelLike, load_model

DRAWS_SHARE = 0.1
"""The share of delta that pays for estimating the Gibbs risk by drawing weights."""

SIGMAS = (0.01, 0.03, 0.1)
"""Standard deviations that are tried: round numbers around those at which small networks begin to err."""


@dataclass(frozen=True)
class CorrelatedLayer:
    """A layer's weight correlation. rho, divergence (g, in nats): None where the layer has one weight a kernel."""

    name: str
    op: str
    neurons: int
    weights: int
    rho: float | None
    divergence: float | None


@dataclass(frozen=True)
class PacBayes:
    """The bounds at one standard deviation of the weights.

    risk: the mean error of drawn networks on the samples; risk_upper: at least the posterior's; kl: in nats.
    """

    sigma: float
    risk: float
    risk_upper: float
    kl: float
    bounds: tuple[Bound, ...]


@dataclass(frozen=True)
class Theory:
    """What theory says of a model.

    n: training samples. parameters: numbers in the weights and biases. distance: the norm of their difference from the
    initial ones. measure: Jin et al.'s, distance^2 / 2 plus the mean divergence of the layers; it ranks networks and
    bounds nothing. pac_bayes: one entry a sigma; for each kind of bound, all hold together with probability 1 - delta.
    threat: over which an error is a sample that is not proved right; None: an error is a wrong class. notes: what the
    bounds take for granted.
    """

    model: str
    n: int
    parameters: int
    distance: float
    measure: float
    delta: float
    layers: list[CorrelatedLayer]
    pac_bayes: list[PacBayes]
    threat: str | None
    notes: list[str]
    cpu_seconds: float

    @property
    def best(self) -> Bound:
        """The least of all bounds."""
        return min((bound for entry in self.pac_bayes for bound in entry.bounds), key=lambda bound: bound.value)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        held = asdict(self)
        for entry, own in zip(held["pac_bayes"], self.pac_bayes, strict=True):
            entry["bounds"] = [bound.to_json() for bound in own.bounds]
        return held


@checked
def theory(
    model: ModelLike,
    data: DataLike,
    *,
    initial: "ModelLike | None" = None,
    threat: str | Threat | None = None,
    sigmas: Sequence[float] = SIGMAS,
    delta: float = 0.05,
    draws: int = 100,
    limit: int | None = None,
    seed: int = 0,
) -> Theory:
    """Weight correlation of a model's layers, and PAC-Bayes bounds on the error of networks drawn around it.

    data: training samples, independent draws from the population that the bounds speak of; part of them is sound too.
    initial: the network as it was before it saw them, whose weights are the prior's mean (0 unless given). threat: with
    it, an error is a sample on which interval bounds do not prove the drawn network right over the threat, so that the
    bounds hold for the robust error. sigmas: standard deviations of prior and posterior, chosen before the data are
    seen; each pays an equal share of delta. draws: networks drawn for the Gibbs risk.

    Raises InputError when an input cannot be used, the model has no graph or no weights, its outputs are not classes,
    or the initial network is built otherwise.
    """
    began = time.process_time()
    _check(sigmas, delta)
    chosen, samples = _fitting(model, data, limit)
    graph = graph_of(chosen)
    layers = layers_of(graph)
    weights = vector(graph, layers)
    start = weights * 0 if initial is None else _initial(initial, samples, graph, layers)
    distance = float((weights - start).norm())
    correlated = [_correlation(layer) for layer in layers]
    divergences = [layer.divergence for layer in correlated if layer.divergence is not None]
    samples, errors = (samples, wrong) if threat is None else _unproved(graph, samples, threat)
    share = delta / len(sigmas)
    entries = []
    for sigma in sigmas:
        paid = share * DRAWS_SHARE
        found = gibbs_risk(
            graph, layers, samples.x, samples.y, sigma=sigma, draws=draws, delta=paid, seed=seed, errors=errors
        )
        kl = gaussian_kl(distance, len(weights), sigma)
        bounds = all_bounds(found.upper, kl, len(samples), share - paid)
        paid_by_all = tuple(replace(bound, delta=delta) for bound in bounds)
        entries.append(PacBayes(sigma, found.mean, found.upper, kl, paid_by_all))
    mean = math.fsum(divergences) / len(divergences) if divergences else 0.0
    return Theory(
        model=chosen.name,
        n=len(samples),
        parameters=len(weights),
        distance=distance,
        measure=distance**2 / 2 + mean,
        delta=delta,
        layers=correlated,
        pac_bayes=entries,
        threat=None if threat is None else str(threat),
        notes=_notes(graph, layers, initial is not None),
        cpu_seconds=time.process_time() - began,
    )


def _check(sigmas: Sequence[float], delta: float) -> None:
    if not sigmas:
        raise InputError("No sigma is given; name at least one standard deviation, such as 0.03.")
    for sigma in sigmas:
        check_positive("sigma", sigma)
    check_share("delta", delta)


def _fitting(model: ModelLike, data: DataLike, limit: int | None) -> tuple[Model, Data]:
    """The model, and its samples in the shape that it takes."""
    whole = load_data(data, None)
    samples = whole.head(limit)
    chosen = load_model(model, samples.shape, samples.x)
    chosen.check_weights()
    samples = arrange(samples.of_type(chosen.dtype), chosen.input_shape)
    if not samples.labelled:
        raise InputError(f"{samples.name} has no labels, so no error can be counted; give labelled training data.")
    if len(chosen.output_shape) != 1 or chosen.output_shape[0] < 2:
        raise InputError(
            f"{chosen.name} has outputs of shape {chosen.output_shape}; the bounds take one score a class."
        )
    return chosen, with_classes(samples, whole, chosen, chosen.output_shape[0])


def _unproved(graph: Graph, samples: Data, against: str | Threat) -> tuple[Data, Errors]:
    """The samples in the threat's domain, and the loss that is 1 where interval bounds do not prove the class over the
    threat (in the weights' arithmetic)."""
    threat = parse_threat(against) if isinstance(against, str) else against
    missing = unboundable(graph)
    if missing or not threat.provable:
        raise InputError(missing[0] if missing else f"Nothing can be proved about the threat {threat}; choose another.")

    def errors(network: Graph, x: Tensor, y: Tensor) -> Tensor:
        rows = Argmax().rows(y, network.output_shape[0], network.dtype)
        return (~(rows.combine(lower_bound("ibp", network, threat, x, rows)) > 0)).double()

    return into_domain(samples, threat), errors


def _initial(initial: ModelLike, samples: Data, graph: Graph, layers: list[Layer]) -> Tensor:
    """The weights and biases of the network before training."""
    other = load_model(initial, samples.shape, samples.x)
    theirs = layers_of(graph_of(other))
    if [layer.weight.shape for layer in theirs] != [layer.weight.shape for layer in layers]:
        raise InputError(
            f"The initial network {other.name} has other layers than the model; give the one it came from."
        )
    found = vector(graph_of(other), theirs)
    if found.shape != vector(graph, layers).shape:
        raise InputError(
            f"The initial network {other.name} has other biases than the model; give the one it came from."
        )
    return found


def _correlation(layer: Layer) -> CorrelatedLayer:
    known = is_correlated(layer.weight)
    rho = float(weight_correlation(layer.weight.double(), layer.groups)) if known else None
    g = None if rho is None else float(correlation_divergence(rho, layer.neurons, layer.weights, layer.groups))
    return CorrelatedLayer(layer.name, layer.op, layer.neurons, layer.weights, rho, g)


def _notes(graph: Graph, layers: list[Layer], initial: bool) -> list[str]:
    notes = ["The bounds speak of networks drawn around the weights, not of the network itself."]
    if initial:
        notes.append("The initial network and sigma must not have been chosen by these samples.")
    else:
        notes.append("The prior's mean is 0; sigma must not have been chosen by these samples.")
    fixed = held_fixed(graph, layers)
    if fixed:
        notes.append(f"{len(fixed)} other constants of the network stay fixed; they must not come from these samples.")
    return notes
