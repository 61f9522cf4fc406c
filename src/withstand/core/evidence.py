"""What a search may say. None of it is a verdict: verdicts are the judge's (withstand.core.judge)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from torch import Tensor

Loss = Literal["margin", "ce", "dlr"]


class Grade(StrEnum):
    """The arithmetic a lower bound was computed in, weakest first."""

    FLOAT32 = "float32 without slack"
    FLOAT64 = "float64 without slack"
    SLACK64 = "float64 with outward slack"
    LEAVES = "leaf-checked certificate"


@dataclass(frozen=True)
class Ask:
    """An attack asks the runner to evaluate points x [B, *shape].

    `grad` asks for the gradient of `loss` as well. Every loss falls as the property comes closer to violation, so
    attacks always walk downhill.
    """

    x: Tensor
    grad: bool = False
    loss: Loss = "margin"


@dataclass(frozen=True)
class Told:
    """The runner's answer to an `Ask`, per row.

    `margin` [B]: > 0 the property holds at x. `loss` [B]: the loss asked for. `grad` [B, *shape] or None.
    Where the model's gradient was exactly zero, `grad` is a random direction, so that a search does not stand still.
    `live` [B]: rows not yet refuted; the others were not evaluated and hold their last values (gradient 0).
    """

    margin: Tensor
    loss: Tensor
    grad: Tensor | None
    live: Tensor


@dataclass(frozen=True)
class Candidate:
    """Points x [B, *shape] that may violate the property; `rows` [B] says of which questions."""

    rows: Tensor
    x: Tensor


@dataclass(frozen=True)
class Lower:
    """Sound lower bounds [B] on the margin over the threat, for the questions `rows` [B]."""

    rows: Tensor
    bound: Tensor
    grade: Grade


@dataclass(frozen=True)
class Sampled:
    """A statistic: `hits` violations in `draws` random points of the threat."""

    rows: Tensor
    hits: Tensor
    draws: int


Evidence = Candidate | Lower | Sampled
