"""The theory's experiments as tables, by the names that the command line knows."""

import math
from collections.abc import Callable, Sequence

import torch

from withstand.core.errors import InputError
from withstand.core.registry import suggest
from withstand.generalisation.bernoulli_model import bernoulli_table
from withstand.generalisation.bound import Table, table
from withstand.generalisation.gaussian_model import gaussian_table
from withstand.generalisation.rademacher import linear_rademacher


def rademacher_table(
    dims: Sequence[int] = (10, 100, 1000),
    orders: Sequence[float] = (1, 2, math.inf),
    *,
    n: int = 50,
    eps: float = 0.1,
    draws: int = 10_000,
    seed: int = 0,
) -> Table:
    """Natural and adversarial Rademacher complexity of {||w||_p <= 1} on n normal samples, by dimension and p.

    The attacker moves every feature by up to eps. What it adds grows with the dimension unless p is 1.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for d in dims:
        x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        y = 2.0 * torch.randint(2, (n,), generator=generator).double() - 1
        for p in orders:
            found = linear_rademacher(x, y, eps=eps, p=p, draws=draws, seed=seed)
            rows.append(
                (d, float(p), found.natural, found.adversarial, found.adversarial_error, found.slack, found.bound)
            )
    return table(
        f"Rademacher complexity of linear classifiers, n = {n}, eps = {eps:g} in linf",
        ("d", "p", "natural", "adversarial", "standard error", "slack", "bound"),
        rows,
        [
            "adversarial <= natural + slack; bound is in closed form. Yin et al. 2019, arXiv:1810.11914.",
        ],
    )


EXPERIMENTS: dict[str, Callable[[], Table]] = {
    "rademacher-linear": rademacher_table,
    "schmidt-bernoulli": bernoulli_table,
    "schmidt-gaussian": gaussian_table,
}
"""Name of each experiment to the function that does it with its own defaults."""


def experiment(name: str) -> Table:
    """An experiment by name, with its defaults; raises InputError with the near miss where there is none."""
    if name not in EXPERIMENTS:
        raise InputError(f"There is no experiment {name!r}; {suggest(name, list(EXPERIMENTS))}")
    return EXPERIMENTS[name]()
