"""The form of universal attacks, and how a fitted one runs like any other attack."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from withstand.core.evidence import Ask
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat

State = dict[str, Tensor]
"""What a fit has reached: tensors by name, among them `epoch`, how many epochs are done."""

Model = Callable[[Tensor], Tensor]


class Universal(Protocol):
    """A universal attack (see `withstand.core.registry.universal`).

    fit: yields the state after every epoch on inputs x [N, *shape], from the beginning or from an earlier state; the
    states that follow are the same bit for bit. It fools the model's own predictions, so it sees no labels.
    apply: points of the threat around x0 [B, *shape]; `rng` gives every row its random numbers.
    """

    norms: ClassVar[tuple[str, ...]]
    access: ClassVar[Access]

    def fit(self, model: Model, x: Tensor, threat: Threat, seed: int, state: State | None) -> Iterator[State]: ...

    def apply(self, state: State, x0: Tensor, threat: Threat, rng: RowRandom) -> Tensor: ...


@dataclass(frozen=True)
class Fitted:
    """A universal attack with the state it has reached, as an attack: it asks about one point a row."""

    access: ClassVar[Access] = Access.LABELS

    text: str
    method: Universal = field(repr=False)
    state: State = field(repr=False)

    @property
    def norms(self) -> tuple[str, ...]:
        """Threats it works in: those of the universal attack."""
        return self.method.norms

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask."""
        yield Ask(self.method.apply(self.state, x0, threat, rng))


def predictions(model: Model, x: Tensor, rows: int = 256) -> Tensor:
    """The classes [N] that the model names at x [N, *shape]."""
    with torch.no_grad():
        return torch.cat([flattened(model(part)).argmax(1) for part in x.split(rows)])


def fooling_rate(model: Model, attack: Fitted, x: Tensor, threat: Threat, seed: int = 0) -> float:
    """The share of inputs x [N, *shape] whose class, as the model itself names it, the perturbation changes."""
    rng = RowRandom(row_seeds(seed, range(len(x)), attack.text).to(x.device))
    moved = threat.deploy(x, attack.method.apply(attack.state, x, threat, rng))
    return float((predictions(model, moved) != predictions(model, x)).double().mean())
