"""Properties of outputs that keep their side of a threshold: one answer of two, or the labels of a set."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.evidence import Loss
from withstand.core.property import Property, Rows, picked
from withstand.core.shapes import flattened

Reading: TypeAlias = Literal["logits", "probabilities"]
"""What outputs are: numbers whose sign decides, or what a sigmoid makes of them."""

EDGES: dict[Reading, float] = {"logits": 0.0, "probabilities": 0.5}
"""Where an output changes its side, unless a threshold is given."""

TINY = 1e-30
"""The least probability of which a logarithm is taken."""


@dataclass(frozen=True)
class Sided(Property):
    """Every output stays on the side of a threshold that its label, 1 above and 0 below, names.

    outputs: what the model's outputs are. None: nobody has said or looked yet, which every verb does before it asks;
    until then they count as logits. threshold: the edge between the sides, where it is not that of `EDGES`.
    Raises InputError for another word, and for a threshold that no output can be on both sides of.
    """

    losses: ClassVar[tuple[Loss, ...]] = ("margin", "ce")
    name: ClassVar[str] = ""

    outputs: Reading | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.outputs not in (None, *get_args(Reading)):
            raise InputError(f"Outputs of {self.name} are logits or probabilities, not {self.outputs!r}.")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(f"The threshold {self.threshold!r} of {self.name} is no finite number.")
        if self.outputs == "probabilities" and not 0 < self.edge < 1:
            raise InputError(f"The threshold {self.edge:g} of {self.name} is no probability between 0 and 1.")

    def __str__(self) -> str:
        told = [] if self.outputs is None else [f"outputs={self.outputs}"]
        told += [] if self.threshold is None else [f"threshold={self.threshold!r}"]
        return self.name + (":" + ",".join(told) if told else "")

    @property
    def edge(self) -> float:
        """The number between the two sides."""
        return EDGES[self.outputs or "logits"] if self.threshold is None else self.threshold

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        """One row an output."""
        sign = 2 * flattened(y.to(dtype)) - 1
        return Rows(torch.diag_embed(sign), -self.edge * sign, torch.arange(outputs, device=y.device))

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """[B, L]: how far every output is from changing its side."""
        return (2 * flattened(y.to(outputs)) - 1) * (flattened(outputs) - self.edge)

    def loss(self, name: Loss, outputs: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """`ce` is minus the binary cross-entropy, summed over the outputs or of the target alone."""
        if name in ("ce", "smooth"):
            each = self._log_likelihood(flattened(outputs), flattened(y))
            return each.sum(1) if target is None else picked(each, target)
        return super().loss(name, outputs, y, target)

    def _log_likelihood(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.outputs == "probabilities":
            return torch.where(y > 0, outputs, 1 - outputs).clamp(min=TINY).log()
        return torch.nn.functional.logsigmoid((2 * y.to(outputs) - 1) * (outputs - self.edge))


@dataclass(frozen=True)
class MultiLabel(Sided):
    """Every label of a set keeps its side: y [B, L] holds 1 where the output [B, L] is above the threshold, else 0."""

    name: ClassVar[str] = "multi-label"
    reads: ClassVar[Literal["class", "labels", "side", "values"]] = "labels"

    def answer(self, outputs: Tensor) -> Tensor:
        """How many labels are above the threshold."""
        return (flattened(outputs) > self.edge).sum(1)

    def label(self, y: Tensor) -> Tensor:
        """How many labels there are."""
        return y.sum(1)


@dataclass(frozen=True)
class Binary(Sided):
    """The one output [B, 1] or [B] keeps its side: y [B] is 1 where it is above the threshold, else 0."""

    losses: ClassVar[tuple[Loss, ...]] = ("margin", "ce", "dlr")
    name: ClassVar[str] = "binary"
    reads: ClassVar[Literal["class", "labels", "side", "values"]] = "side"

    def answer(self, outputs: Tensor) -> Tensor:
        """1 above the threshold, else 0."""
        return (flattened(outputs)[:, 0] > self.edge).long()

    def loss(self, name: Loss, outputs: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """`ce` is minus the binary cross-entropy. `dlr` is the margin, as for two classes."""
        return super().loss("margin" if name == "dlr" else name, outputs, y, target)


def parse_sided(kind: Callable[..., Sided], value: str) -> Sided:
    """A property from what follows its name: nothing, `outputs=probabilities`, `threshold=0.3`, or both with a comma.

    Raises ValueError for another text, and InputError as the property does.
    """
    given: dict[str, str | float] = {}
    for part in value.split(",") if value else []:
        name, equals, text = part.partition("=")
        name = name.strip()
        if not equals or name not in ("outputs", "threshold") or name in given:
            raise ValueError(part)
        given[name] = text.strip() if name == "outputs" else float(text)
    return kind(**given)
