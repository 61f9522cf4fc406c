"""Everything known of a network's Lipschitz constant: by method, by layer and by pair of outputs."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from withstand.core.errors import InputError, ToolFault
from withstand.graph.ir import Graph
from withstand.lipschitz.certified import Certified, certified
from withstand.lipschitz.maps import LinearMap
from withstand.lipschitz.power import power
from withstand.lipschitz.secants import MOST_OUTPUTS, secants
from withstand.lipschitz.seqlip import SeqLip

Norm = Literal["l2", "linf", "l1"]

P: dict[str, float] = {"l2": 2, "linf": math.inf, "l1": 1}

POINTS = 32
"""Points from which steep secants are looked for, where none are given."""

AGREES = 1e-9
"""How far rounding may carry bounds that are equal past each other, as a share."""


class Kind(StrEnum):
    """What a number says about the constant."""

    CERTIFIED = "certified"
    ESTIMATE = "estimate"
    LOWER = "lower bound"


@dataclass(frozen=True)
class Bound:
    """What one method found."""

    method: str
    value: float
    kind: Kind


@dataclass(frozen=True)
class Layer:
    """A linear map between values that bend: its nodes with weights, sizes, and its norm from above (certified) and
    below (the power method in l2, else None)."""

    name: str
    inputs: int
    outputs: int
    norm: float
    power: float | None


@dataclass(frozen=True)
class Pair:
    """The difference of two outputs: its constant from above (certified, the tightest, of `method`) and below."""

    first: int
    second: int
    norm: float
    method: str
    lower: float


@dataclass(frozen=True)
class Constants:
    """Bounds of the constant of one network over all inputs, with changes of inputs and outputs measured in `norm`.

    bounds: smallest first. layers, pairs: see `Layer` and `Pair`; no pairs where there are more than 64
    outputs. notes: which methods do not apply and why, and where bounds stand in an unusual order.
    """

    norm: Norm
    bounds: tuple[Bound, ...]
    layers: tuple[Layer, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()

    @property
    def upper(self) -> Bound:
        """The tightest certified bound."""
        return min((b for b in self.bounds if b.kind is Kind.CERTIFIED), key=lambda bound: bound.value)

    @property
    def lower(self) -> Bound:
        """The lower bound."""
        return next(bound for bound in self.bounds if bound.kind is Kind.LOWER)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def constants(graph: Graph, norm: Norm = "l2", x: Tensor | None = None) -> Constants:
    """Bound the constant of a graph from both sides. x [B, *input_shape]: points near which steep secants are looked
    for; uniform in [0, 1] unless given.

    Raises InputError where the norm is another, an operator has no constant over all inputs, or none is known, and
    ToolFault where a secant is steeper than a certified bound.
    """
    if norm not in P:
        raise InputError(f"There is no norm {norm!r} for Lipschitz constants; choose l2, linf or l1.")
    known, p = certified(graph), P[norm]
    outputs = math.prod(graph.output_shape)
    count = outputs if outputs <= MOST_OUTPUTS else 0
    index = torch.tensor(list(combinations(range(count), 2)), dtype=torch.long).reshape(-1, 2)
    eye = torch.eye(outputs, dtype=torch.float64)
    differences = eye[index[:, 0]] - eye[index[:, 1]]
    if x is None:
        shape = (POINTS, *graph.input_shape)
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    below = secants(known.layout.graph, x.cpu().double(), p, differences)
    found = [Bound("secants", below.value, Kind.LOWER), *_above(known, p)]
    uppers = {name: method.rows(differences) for name, method in known.methods(p).items()}
    names = list(uppers)
    tightest, which = torch.stack(list(uppers.values())).min(0)
    told = zip(index.tolist(), tightest.tolist(), which.tolist(), below.rows.tolist(), strict=True)
    pairs = [Pair(i, j, norm, names[k], low) for (i, j), norm, k, low in told]
    _check(below.value, found[1:])
    for pair in pairs:
        _check(pair.lower, [Bound(pair.method, pair.norm, Kind.CERTIFIED)])
    maps = dict.fromkeys(map for map in known.autolip(p).norms if map.nodes)
    layers = tuple(_layer(map, known.autolip(p).norms[map], p) for map in maps)
    bounds = tuple(sorted(found, key=lambda bound: bound.value))
    return Constants(norm, bounds, layers, tuple(pairs), tuple(_notes(known, p, bounds)))


def _above(known: Certified, p: float) -> list[Bound]:
    found = [Bound(name, method.value, Kind.CERTIFIED) for name, method in known.methods(p).items()]
    if p == 2 and isinstance(known.seqlip, SeqLip) and not known.seqlip.certified:
        found.append(Bound("seqlip", known.seqlip.value, Kind.ESTIMATE))
    return found


def _check(lower: float, bounds: list[Bound]) -> None:
    for bound in bounds:
        if bound.kind is Kind.CERTIFIED and lower > bound.value * (1 + AGREES):
            raise ToolFault(
                f"A secant of slope {lower:.6g} is steeper than the bound {bound.value:.6g} of {bound.method}: "
                "withstand contradicts itself; please report it with the model."
            )


def _layer(map: LinearMap, norm: float, p: float) -> Layer:
    below = None
    if p == 2:
        made = torch.Generator().manual_seed(0)
        start = torch.randn(2, *map.shapes[map.source], generator=made, dtype=torch.float64)
        below = float(power(map, start))
    return Layer(map.name, map.inputs, map.outputs, norm, below)


def _notes(known: Certified, p: float, bounds: tuple[Bound, ...]) -> list[str]:
    if p != 2:
        return ["SeqLip and ECLipsE-Fast bound constants in l2 only."]
    notes = []
    for name, method in (("SeqLip", known.seqlip), ("ECLipsE-Fast", known.eclipse)):
        if isinstance(method, str):
            notes.append(f"No {name}: {method}.")
    value = {bound.method: bound.value for bound in bounds}
    if isinstance(known.seqlip, SeqLip) and not known.seqlip.certified:
        notes.append("SeqLip is an estimate: its layers are too wide to enumerate, and a search may miss the largest.")
        if value["seqlip"] < value["secants"]:
            notes.append("The estimate by SeqLip is too small here: a secant is steeper.")
    most = value["autolip"] * (1 + AGREES)
    notes += [f"{name} lies above AutoLip, by rounding or by chance." for name in value if value[name] > most]
    return notes
