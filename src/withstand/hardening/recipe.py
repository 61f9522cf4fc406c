"""A recipe: all that decides a training but for model, data and threat, with the torch objects it stands for."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from withstand.core.errors import InputError
from withstand.hardening.objective import Objective, build_objective

Schedule = Literal["constant", "one-cycle", "triangle", "cosine", "drops"]
Augment = Literal["none", "shift", "shift-flip"]
Optimiser = Literal["adam", "sgd"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    objective, additions: as on the command line. epochs: passes over the training data (a pass of a replaying objective
    shows each batch several times). batch: rows of one step. optimiser, rate (its largest learning rate), momentum
    (SGD's), decay: of weights. schedule: of the rate: constant; one-cycle (up along a cosine until `peak`, down to
    nothing); triangle (the same in straight lines); cosine (down from the start); drops (by `factor` at each share of
    the training in `drops`). ramp: shares of the training between which the radius grows from 0 to full. widen:
    the radius trained against, as a multiple of the threat's. clip: largest length of a gradient (None: any). average:
    decay of the running average of weights that is kept beside them (None: none). augment: none; shift: half of the
    images moved by one pixel; shift-flip: images moved by up to four pixels and mirrored. source: where these numbers
    come from. Raises InputError for a word or a number that cannot be one of these.
    """

    objective: str
    additions: tuple[str, ...] = ()
    epochs: int = 20
    batch: int = 128
    optimiser: Optimiser = "adam"
    rate: float = 1e-3
    momentum: float = 0.9
    decay: float = 0.0
    schedule: Schedule = "one-cycle"
    peak: float = 0.2
    drops: tuple[float, ...] = ()
    factor: float = 0.1
    ramp: tuple[float, float] = (0.0, 0.0)
    widen: float = 1.0
    clip: float | None = None
    average: float | None = None
    augment: Augment = "none"
    source: str = "our own choice for small networks"

    def __post_init__(self) -> None:
        for name, kind in (("optimiser", Optimiser), ("schedule", Schedule), ("augment", Augment)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"The {name} {getattr(self, name)!r} is not known; choose {', '.join(get_args(kind))}."
                )
        above = {"rate": self.rate, "epochs": self.epochs, "batch": self.batch, "widen": self.widen}
        above |= {"factor": self.factor, "clip": 1.0 if self.clip is None else self.clip}
        for name, value in above.items():
            if not 0 < value < math.inf:
                raise InputError(f"The {name} of a recipe is {value:g}; give a positive number.")
        shares = {"momentum": self.momentum, "decay": self.decay, "peak": self.peak, "average": self.average or 0.0}
        for name, value in shares.items():
            if not 0 <= value < 1:
                raise InputError(f"The {name} of a recipe is {value:g}; give a number from 0 to below 1.")
        if not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise InputError(f"The radius cannot grow between the shares {self.ramp} of a training; give two in order.")

    def __str__(self) -> str:
        """In one paragraph, for people."""
        parts = [self.objective + "".join(f" with {one}" for one in self.additions)]
        parts.append(f"{self.epochs} epochs of batches of {self.batch}")
        momentum = f" (momentum {self.momentum:g})" if self.optimiser == "sgd" else ""
        parts.append(f"{self.optimiser}{momentum} at {self.rate:g}, {self._schedule()}")
        if self.decay:
            parts.append(f"weight decay {self.decay:g}")
        if self.ramp[1]:
            parts.append(f"radius from 0 to full between {self.ramp[0]:.0%} and {self.ramp[1]:.0%} of the training")
        if self.widen != 1:
            parts.append(f"trained at {self.widen:.4g} of the threat's radius")
        if self.clip is not None:
            parts.append(f"gradients clipped to {self.clip:g}")
        if self.average is not None:
            parts.append(f"averaged weights (decay {self.average:g})")
        if self.augment != "none":
            parts.append(f"images augmented by {self.augment}")
        return "; ".join(parts) + f". Source: {self.source}."

    def _schedule(self) -> str:
        if self.schedule in ("one-cycle", "triangle"):
            return f"{self.schedule} with its peak at {self.peak:.0%}"
        if self.schedule == "drops":
            return f"times {self.factor:g} at {', '.join(f'{share:.0%}' for share in self.drops)}"
        return self.schedule

    def settings(self) -> dict[str, str]:
        """Every field as text, for records."""
        return {name: str(value) for name, value in asdict(self).items()}

    def build(self) -> Objective:
        """The objective with its additions. Raises InputError when a name or parameter is unknown."""
        return build_objective(self.objective, self.additions)

    def optimise(self, module: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """An optimiser of the module's parameters and its schedule over so many steps, called after each."""
        learned = [p for p in module.parameters() if p.requires_grad]
        if self.optimiser == "adam":
            optimiser: torch.optim.Optimizer = torch.optim.Adam(learned, self.rate, weight_decay=self.decay)
        else:
            optimiser = torch.optim.SGD(learned, self.rate, self.momentum, weight_decay=self.decay)
        factor = self._factor()
        return optimiser, LambdaLR(optimiser, lambda step: factor(min(1.0, step / max(1, steps))))

    def _factor(self) -> Callable[[float], float]:
        """From the share of the training that is done to a factor on the rate."""
        if self.schedule == "drops":
            return lambda done: self.factor ** sum(done >= share for share in self.drops)
        if self.schedule == "cosine":
            return lambda done: (1 + math.cos(math.pi * done)) / 2
        if self.schedule == "constant":
            return lambda done: 1.0

        def hill(done: float) -> float:
            """From .04 to 1 at the peak and to nothing at the end."""
            up = done < self.peak
            way = done / self.peak if up else (1 - done) / max(1e-9, 1 - self.peak)
            if self.schedule == "one-cycle":
                way = (1 - math.cos(math.pi * way)) / 2
            return 0.04 + 0.96 * way if up else way

        return hill
