"""The form of a training objective, and of an addition that changes one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.core.registry import build, name_of, register
from withstand.hardening.parts.modes import ordinary
from withstand.hardening.state import State

T = TypeVar("T")

NORMS = ("linf", "l2", "l1")
"""Threats that most objectives can take."""

Judge = Literal["clean", "pgd", "interval", "smoothed"]
"""Accuracy on clean samples, under PGD, proved by interval bounds, or of the vote under noise."""

Model = Callable[[Tensor], Tensor]
"""From a batch [B, *shape] to logits [B, K]."""


class Loss(NamedTuple):
    """value: a scalar to call backward on. logs: detached scalars to watch, by name."""

    value: Tensor
    logs: Mapping[str, Tensor] = {}


class Objective:
    """A training objective: points to train on, and a loss at these points. Both are functions of their arguments:
    nothing is kept but in `state.held`, no gradient is left on a parameter, no mode, buffer or random state changes.

    `objective(model, x, y, state)` does both; call backward on the value, step the optimiser, then `state.advance()`.
    x [B, *shape] are inputs in their natural domain, y int64 [B] their classes. norms: threats it can take (empty: the
    threat plays no part). unlabelled: rows without a label (y = -1) are welcome. coupled: the points of a row depend on
    the other rows of its batch, so that they change when a batch is spread over processes or cut into parts.
    natural_at_zero: at a radius of zero, and with its defaults, it is plain training, bit for bit. judged_by: the
    figure of the validation samples that says which epoch's weights are the best.
    """

    norms: ClassVar[tuple[str, ...]] = NORMS
    unlabelled: ClassVar[bool] = False
    coupled: ClassVar[bool] = False
    natural_at_zero: ClassVar[bool] = False
    judged_by: ClassVar[Judge] = "pgd"

    @property
    def replays(self) -> int:
        """How often a loop should show each batch to the objective, with an optimiser's step each time."""
        return 1

    def prepare(self, module: nn.Module) -> None:
        """Change a fresh or given module before the training starts."""

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        """The points [B, *shape] that `loss` trains on, detached: x itself unless the objective attacks."""
        return x

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        """The loss at x and at the points found for it."""
        raise NotImplementedError

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Loss:
        """Find the points and give the loss there; within `torch.no_grad` and `torch.inference_mode` too.

        Raises InputError when the objective cannot take the threat.
        """
        check_threat(self, state)
        x, y = ordinary(x), ordinary(y)
        return self.loss(model, x, self.find(model, x, y, state), y, state)


LossFunction = Callable[[Model, Tensor, Tensor, Tensor, State], Loss]
"""`Objective.loss` of an objective, or of one with additions."""


class Addition:
    """Something added to any objective: a penalty, another place to take the loss at, a change of the module.

    coupled: what it adds is no mean over rows, so that it changes when a batch is cut into parts.
    """

    coupled: ClassVar[bool] = False

    def prepare(self, module: nn.Module) -> None:
        """Change a fresh or given module before the training starts."""

    def finish(self, module: nn.Module) -> None:
        """Undo in a trained module, a copy, what `prepare` did and deployment does not need."""

    def loss(self, rest: LossFunction, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        """The loss with this addition; `rest` is the loss without it."""
        return rest(model, x, at, y, state)


@dataclass(frozen=True)
class Combined(Objective):
    """An objective with additions, the first one innermost."""

    base: Objective
    additions: Sequence[Addition] = field(default_factory=tuple)

    @property
    def norms(self) -> tuple[str, ...]:  # type: ignore[override]
        """The threats that the base can take."""
        return self.base.norms

    @property
    def unlabelled(self) -> bool:  # type: ignore[override]
        """Whether the base takes rows without a label."""
        return self.base.unlabelled

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        """Whether the base or an addition looks at the rows of a batch together."""
        return self.base.coupled or any(one.coupled for one in self.additions)

    @property
    def replays(self) -> int:
        return self.base.replays

    def prepare(self, module: nn.Module) -> None:
        self.base.prepare(module)
        for one in self.additions:
            one.prepare(module)

    def finish(self, module: nn.Module) -> None:
        """Undo what the additions need in training only."""
        for one in reversed(self.additions):
            one.finish(module)

    def find(self, model: nn.Module, x: Tensor, y: Tensor, state: State) -> Tensor:
        return self.base.find(model, x, y, state)

    def loss(self, model: nn.Module, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:  # type: ignore[override]
        def at_level(level: int) -> LossFunction:
            if level == 0:
                return self.base.loss
            one, rest = self.additions[level - 1], at_level(level - 1)
            return lambda model, x, at, y, state: one.loss(rest, model, x, at, y, state)  # type: ignore[arg-type]

        return at_level(len(self.additions))(model, x, at, y, state)


def base_of(objective: Objective) -> Objective:
    """The objective without its additions."""
    return objective.base if isinstance(objective, Combined) else objective


def check_threat(objective: Objective, state: State) -> None:
    """Raise InputError when an objective cannot take the threat."""
    base = base_of(objective)
    if base.norms and state.threat.norm not in base.norms:
        raise InputError(
            f"The objective {name_of(base)!r} trains against {', '.join(base.norms)}, not against "
            f"{state.threat.norm}; choose another threat or objective."
        )


def build_objective(text: str, additions: Sequence[str] = ()) -> Objective:
    """An objective from text such as `trades:beta=3`, with additions such as `awp:gamma=0.005`.

    Raises InputError naming the near miss when a name or parameter is unknown, or when an addition is there twice.
    """
    base = build("objective", text)
    built = tuple(build("addition", one) for one in additions)
    names = [name_of(one) for one in built]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"The addition {name!r} is given twice; give it once.")
    return Combined(base, built) if built else base


@dataclass_transform(frozen_default=True, kw_only_default=True)
def objective(cls: type[T]) -> type[T]:
    """Class decorator of a training objective, a subclass of `Objective` whose fields are its parameters."""
    return register("objective")(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def addition(cls: type[T]) -> type[T]:
    """Class decorator of an addition, a subclass of `Addition` whose fields are its parameters."""
    return register("addition")(cls)
