"""The samples under examination, the model as its owner gave it, and what the attacks run so far broke."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from withstand.core.attack import Attack, misfit
from withstand.core.oracle import slope_of
from withstand.core.property import Property
from withstand.core.records import Check
from withstand.core.registry import build
from withstand.core.runner import Found, run
from withstand.core.threat import Threat
from withstand.graph.model import Model

Layer = Callable[[Tensor], Tensor]

WALKS = "worst:queries=0,then=none"
"""Every kind of walk by gradients that this project has, without its blind audit."""

PART = 256
"""Rows of one model call."""


@dataclass
class Subject:
    """N samples x0 [N, *shape] with targets y [N] and their numbers in the data; `asked` is the property.

    Attacks see the module itself, where there is one, not the graph captured from it: a graph has no layer that
    swallows gradients, so it would hide what is looked for. clean: [N], margins at x0. broken: bool [N], an attack by
    gradients refuted the sample within the threat; lowest: [N], the margin such attacks reached. blind: bool [N],
    something else did. forward, backward: rows passed so far.
    """

    model: Model
    x0: Tensor
    y: Tensor
    ids: list[int]
    threat: Threat
    asked: Property
    seed: int = 0
    forward: int = 0
    backward: int = 0
    clean: Tensor = field(init=False)
    lowest: Tensor = field(init=False)
    broken: Tensor = field(init=False)
    blind: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.clean = self.asked.margin(self.outputs(self.x0), self.y)
        self.lowest = self.clean.clone()
        self.broken, self.blind = torch.zeros_like(self.right), torch.zeros_like(self.right)

    @property
    def right(self) -> Tensor:
        """bool [N]: the property holds at x0."""
        return self.clean > 0

    def __call__(self, x: Tensor) -> Tensor:
        """The module's outputs at x [n, *shape]."""
        return self.model.given(x)

    @property
    def rows(self) -> Tensor:
        """Numbers of the samples that are right when clean."""
        return self.right.nonzero().squeeze(1)

    @property
    def left(self) -> Tensor:
        """Numbers of the samples that are right when clean and that no attack by gradients refuted."""
        return (self.right & ~self.broken).nonzero().squeeze(1)

    def accuracy(self, hit: Tensor) -> float:
        """Share of all samples that are right when clean and not hit [N]."""
        return float((self.right & ~hit).double().mean())

    def numbers(self, rows: Tensor) -> list[int]:
        """The samples' numbers in the data, of a mask [N] or of rows."""
        rows = rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows
        return [self.ids[i] for i in rows.tolist()]

    def outputs(self, x: Tensor, f: Layer | None = None) -> Tensor:
        """Outputs at x [n, *shape], of the module or of another part of it, without gradients."""
        self.forward += len(x)
        with torch.no_grad():
            return torch.cat([(f or self)(part) for part in x.split(PART)])

    def gradient(self, x: Tensor, y: Tensor, loss: str, f: Layer | None = None) -> Tensor:
        """The gradient [n, *shape] of a loss of the property at x [n, *shape], zero where it does not depend on x."""
        self.forward, self.backward = self.forward + len(x), self.backward + len(x)
        parts = []
        for piece, target in zip(x.split(PART), y.split(PART), strict=True):
            leaf = piece.detach().clone().requires_grad_()
            with torch.enable_grad():
                value = self.asked.loss(loss, (f or self)(leaf), target)  # pyright: ignore[reportArgumentType]
            parts.append(slope_of(value, leaf, retain=False))
        return torch.cat(parts)

    def fits(self, text: str, threat: Threat | None = None) -> bool:
        """Whether an attack works in the threat's norm and on the property's losses."""
        norm = (threat or self.threat).norm
        return misfit(build("attack", text), norm, self.asked.losses) is None

    def attack(
        self,
        attack: str | Attack,
        rows: Tensor,
        threat: Threat | None = None,
        surrogate: Layer | None = None,
        again: int = 0,
    ) -> tuple[Tensor, Found]:
        """Attack some rows: what was hit, bool [N], and all that was found on the rows. again: the random numbers of
        another run."""
        found = run(
            build("attack", attack) if isinstance(attack, str) else attack,
            self,
            self.x0[rows],
            self.y[rows],
            threat or self.threat,
            self.asked,
            ids=[self.ids[i] for i in rows.tolist()],
            seed=self.seed + again,
            surrogate=surrogate,
        )
        self.forward += int(found.queries.sum())
        self.backward += int(found.gradients.sum())
        hit = torch.zeros_like(self.right)
        hit[rows] = found.refuted
        return hit, found

    def by_gradients(self, attack: str, rows: Tensor, again: int = 0) -> tuple[Tensor, Found]:
        """`attack` within the threat, by gradients: what it hits counts as broken."""
        hit, found = self.attack(attack, rows, again=again)
        self.broken |= hit
        self.lowest[rows] = torch.minimum(self.lowest[rows], found.margin)
        return hit, found


def pgd(steps: int, more: str = "", pace: int | None = None) -> str:
    """PGD of so many steps, as text, with other parameters: steps of a tenth of the radius, longer where that would not
    cross the threat. pace: the number of steps that sets their length, where it is not the same."""
    return f"pgd:steps={steps},step={max(0.1, 2.5 / (pace or steps)):.4g}{',' if more else ''}{more}"


def skipped(name: str, reason: str) -> Check:
    """The finding of a check that does not apply."""
    return Check(name=name, outcome="note", sentence=f"Not looked at: {reason}")
