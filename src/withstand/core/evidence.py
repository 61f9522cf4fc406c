"""What a search may say. None of it is a verdict: verdicts are the judge's (withstand.core.judge)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from torch import Tensor

Loss = Literal["margin", "ce", "dlr", "smooth"]
"""Names of losses. `smooth` is the cross-entropy where the property has one, else the margin."""


class Grade(StrEnum):
    """The arithmetic a lower bound was computed in, weakest first."""

    FLOAT32 = "float32 without slack"
    FLOAT64 = "float64 without slack"
    SLACK64 = "float64 with outward slack"
    LEAVES = "leaf-checked certificate"


@dataclass(frozen=True)
class Ask:
    """An attack asks the runner to evaluate points x [B, *shape], or several a row [B, P, *shape].

    grad: the gradient of `loss` is wanted as well. Every loss falls as the property comes closer to violation, so
    attacks always walk downhill.
    target: which of the property's targets (see `Property.targets`) the loss is about: [B], or one a point [B, P]. With
    [B, T] at single points, loss and gradient of T targets at once (T backward passes). None: any violation counts.
    weights [B, T], or [B, P, T] of points: the loss is the weighted sum of the margins of all targets instead.
    rows: bool [B], the rows to evaluate (None: all). Rows left out cost nothing.
    stage: a number of the attack's own, by which `Found.stage` says what refuted a row.
    """

    x: Tensor
    grad: bool = False
    loss: Loss = "margin"
    target: Tensor | None = None
    weights: Tensor | None = None
    rows: Tensor | None = None
    stage: int = 0


@dataclass(frozen=True)
class Told:
    """The runner's answer to an `Ask`, per row, or per row and point where several were asked.

    margin [B] or [B, P]: > 0 the property holds at x. loss: the loss asked for, [B], [B, P] or [B, T]. grad: of the
    loss's shape followed by that of a point, or None. Where the model's gradient was exactly zero, it is a random
    direction (save where T targets were asked), so that a search does not stand still.
    targets [B, T] or [B, P, T]: the margin of each target; None where only labels are shown: then margin and loss are
    1 where the property holds and -1 where it does not.
    live [B]: rows still searched; the others were not evaluated. Rows not evaluated have margins and losses of
    infinity, and gradients of zero.
    """

    margin: Tensor
    loss: Tensor
    grad: Tensor | None
    targets: Tensor | None
    live: Tensor


@dataclass(frozen=True)
class Candidate:
    """Points x [B, *shape] that may violate the property; `rows` [B] says of which questions."""

    rows: Tensor
    x: Tensor


@dataclass(frozen=True)
class Lower:
    """Sound lower bounds [B] on the margin over the threat, for the questions `rows` [B].

    domains, open: for searches, how many parts of the threat were bounded so far and how many wait to be split, [B].
    """

    rows: Tensor
    bound: Tensor
    grade: Grade
    domains: Tensor | None = None
    open: Tensor | None = None


@dataclass(frozen=True)
class Sampled:
    """A statistic: `hits` violations in `draws` random points of the threat."""

    rows: Tensor
    hits: Tensor
    draws: int


Evidence = Candidate | Lower | Sampled
