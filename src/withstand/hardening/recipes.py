"""The recipes that come with the package: for each objective, by kind of data, with the source of their numbers.

Numbers that are not in a published source are called our own choice.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from withstand.core.registry import build, describe, name_of
from withstand.hardening.recipe import Recipe

Kind = Literal["digits", "mnist", "cifar10", "other"]

CERTIFIED = ("ibp", "crown-ibp", "sabr", "mtl-ibp")
"""Objectives whose models are to be proved by interval bounds."""

_DIGITS = Recipe("", epochs=60, rate=4e-3, clip=8.0, augment="shift", source="our own choice, as for the built-ins")
_MNIST = Recipe("", epochs=20, rate=2e-3, source="our own choice for 28 x 28 grey images")
_CIFAR = Recipe(
    "",
    epochs=200,
    optimiser="sgd",
    rate=0.1,
    decay=5e-4,
    schedule="drops",
    drops=(0.5, 0.75),
    augment="shift-flip",
    source="Rice et al. 2020, arXiv:2002.11569",
)

BASE: dict[Kind, Recipe] = {"digits": _DIGITS, "mnist": _MNIST, "cifar10": _CIFAR, "other": Recipe("")}
"""What holds for an objective that the table below does not name."""

_CTBENCH = "Mao et al. 2024, CTBench, arXiv:2406.04848"
_FAST = "Wong et al. 2020, arXiv:2001.03994"
_COHEN = "Cohen et al. 2019, arXiv:1902.02918"
_SALMAN = "the code of Salman et al. 2019, arXiv:1906.04584"
_TRADES = "Zhang et al. 2019, arXiv:1901.08573"
_BAG = "Zhang et al. 2019, arXiv:1901.08573, with the weight decay of Pang et al. 2021, arXiv:2010.00467"

TABLE: dict[tuple[Kind, str], Recipe] = {
    ("digits", "pgd"): replace(_DIGITS, objective="pgd:steps=5,step=0.35", epochs=100, rate=5e-3, ramp=(0.0, 0.2)),
    ("digits", "smooth-adv"): replace(_DIGITS, objective="smooth-adv:draws=2,steps=4,step=0.5", ramp=(0.0, 0.5)),
    ("digits", "trades"): replace(_DIGITS, objective="trades", ramp=(0.0, 0.2)),
    **{("digits", name): replace(_DIGITS, objective=name, epochs=300, ramp=(0.0, 0.6)) for name in CERTIFIED},
    ("mnist", "pgd"): Recipe(
        "pgd:steps=40,step=0.03333",
        epochs=83,
        batch=50,
        rate=1e-4,
        schedule="constant",
        source="Madry et al. 2018, arXiv:1706.06083 (100,000 steps)",
    ),
    ("mnist", "fast"): Recipe("fast", epochs=10, batch=100, rate=5e-3, schedule="triangle", peak=0.4, source=_FAST),
    ("mnist", "trades"): Recipe(
        "trades:beta=1,steps=40,step=0.03333",
        epochs=100,
        optimiser="sgd",
        rate=0.01,
        schedule="drops",
        drops=(0.55, 0.75, 0.9),
        source=_TRADES,
    ),
    ("mnist", "wrm"): Recipe(
        "wrm", epochs=25, batch=256, schedule="constant", source="the code of Sinha et al. 2018, arXiv:1710.10571"
    ),
    **{
        ("mnist", name): Recipe(
            name,
            epochs=70,
            batch=256,
            rate=5e-4,
            schedule="drops",
            drops=(50 / 70, 60 / 70),
            factor=0.2,
            ramp=(0.0, 20 / 70),
            widen=4 / 3,
            clip=10.0,
            source=f"{_CTBENCH}; the wider radius after Gowal et al. 2018, arXiv:1810.12715",
        )
        for name in CERTIFIED
    },
    ("cifar10", "pgd"): replace(_CIFAR, objective="pgd:steps=10,step=0.25"),
    ("cifar10", "fast"): replace(
        _CIFAR, objective="fast", epochs=15, rate=0.2, schedule="triangle", peak=0.4, drops=(), source=_FAST
    ),
    ("cifar10", "free"): replace(
        _CIFAR, objective="free", epochs=10, rate=0.04, schedule="triangle", peak=0.4, drops=(), source=_FAST
    ),
    ("cifar10", "trades"): replace(_CIFAR, objective="trades", epochs=76, drops=(75 / 76,), source=_BAG),
    ("cifar10", "gaussian"): replace(
        _CIFAR, objective="gaussian", epochs=90, batch=400, decay=1e-4, drops=(1 / 3, 2 / 3), source=_COHEN
    ),
    ("cifar10", "smooth-adv"): replace(
        _CIFAR,
        objective="smooth-adv",
        epochs=150,
        batch=256,
        decay=1e-4,
        drops=(1 / 3, 2 / 3),
        ramp=(0.0, 1 / 15),
        source=_SALMAN,
    ),
    ("cifar10", "mart"): replace(
        _CIFAR,
        objective="mart",
        epochs=120,
        rate=0.01,
        decay=3.5e-3,
        drops=(75 / 120, 90 / 120, 100 / 120),
        source="the code of Wang et al. 2020 (MART, ICLR 2020)",
    ),
    **{
        ("cifar10", name): replace(
            _CIFAR,
            objective=name,
            batch=60,
            decay=2e-4,
            drops=(0.3, 0.45),
            source="the code of Zhang and Wang 2019, arXiv:1907.10764",
        )
        for name in ("feature-scatter", "atld")
    },
    **{
        ("cifar10", name): replace(
            _CIFAR,
            objective=name,
            epochs=160,
            optimiser="adam",
            rate=5e-4,
            decay=0.0,
            drops=(0.75, 0.875),
            factor=0.2,
            ramp=(1 / 160, 81 / 160),
            clip=10.0,
            source=_CTBENCH,
        )
        for name in CERTIFIED
    },
}
"""(kind of data, objective) to its recipe."""


def kind_of(shape: Sequence[int], classes: int) -> Kind:
    """The kind of data by the shape of a sample, channels first, and the number of classes."""
    known: dict[tuple[int, ...], Kind] = {(1, 8, 8): "digits", (1, 28, 28): "mnist", (3, 32, 32): "cifar10"}
    return known.get(tuple(shape), "other") if classes == 10 else "other"


def recipe_for(text: str, kind: Kind, additions: Sequence[str] = ()) -> Recipe:
    """The recipe of an objective written as `trades` or `trades:beta=3`: parameters that are not given are those of the
    kind of data, then the objective's own.

    Raises InputError naming the near miss when the objective, a parameter or an addition is unknown.
    """
    name, _, given = text.strip().partition(":")
    asked = build("objective", text)
    recipe = TABLE.get((kind, name_of(asked)), BASE[kind])
    known = (recipe.objective or name).partition(":")[2]
    merged = {part.partition("=")[0].strip(): part for part in filter(None, f"{known},{given}".split(","))}
    objective = build("objective", f"{name}:{','.join(merged.values())}")
    for one in additions:
        build("addition", one)
    return replace(recipe, objective=describe(objective), additions=tuple(additions))
