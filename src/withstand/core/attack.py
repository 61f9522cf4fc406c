"""What an attack is, and whether it fits a threat, a property and what it may see."""

from collections.abc import Callable, Generator
from typing import ClassVar, Protocol

from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.evidence import Ask, Told
from withstand.core.oracle import Access
from withstand.core.registry import name_of
from withstand.core.rng import RowRandom
from withstand.core.threat import Threat

Search = Generator[Ask, Told, None]


class Attack(Protocol):
    """The form of an attack (see `withstand.core.registry.attack`).

    Two more ClassVars are optional. `roams`: the attack's points may lie anywhere in the domain, not only in the
    threat. `minimal`: it roams, and looks for the nearest violation. So is a method `escalate(found)`, which names the
    attack to run on the rows left (or None) by what was found on all of them.
    """

    norms: ClassVar[tuple[str, ...]]
    access: ClassVar[Access]

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search: ...


def roams(attack: Attack) -> bool:
    """Whether an attack may ask about points outside the threat."""
    return is_minimal(attack) or getattr(attack, "roams", False)


def is_minimal(attack: Attack) -> bool:
    """Whether an attack looks for the nearest violation by itself."""
    return getattr(attack, "minimal", False)


def misfit(attack: Attack, norm: str, losses: tuple[str, ...]) -> str | None:
    """Why an attack cannot serve in a threat of this norm and a property of these losses, or None."""
    if norm not in attack.norms:
        return f"works for {', '.join(attack.norms)}, not for {norm}"
    loss = getattr(attack, "loss", "margin")
    return None if loss in ("smooth", *losses) else f"walks down {loss}, the property offers {' and '.join(losses)}"


def check_fit(
    attack: Attack,
    norm: str,
    losses: tuple[str, ...],
    access: Access,
    surrogate: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Raise InputError where an attack does not fit the threat's norm or the property's losses, or needs more than the
    access shows."""
    reason = misfit(attack, norm, losses)
    if reason is not None:
        raise InputError(f"The attack {name_of(attack)!r} {reason}; choose another.")
    if surrogate is None and not access.shows(attack.access):
        raise InputError(
            f"The attack {name_of(attack)!r} needs {attack.access.value}s, and only labels are shown; choose one that "
            "needs labels only (`withstand ls attacks` says which)."
        )
