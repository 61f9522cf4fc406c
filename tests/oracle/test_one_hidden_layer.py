"""Attacks on networks of one hidden layer whose least margin is known exactly, many random networks at once.

The margin is linear between the kinks of its neurons, so over a polytope it is least at a point where as many kinks and
faces meet as there are inputs: all of them are tried. In l2 the disc is searched on a fine grid.
"""

import itertools
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from withstand.attacks.apgd import APGD
from withstand.attacks.pgd import PGD
from withstand.attacks.square import Square
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.runner import run
from withstand.core.threat import Threat

NETS, NEURONS = 32, 5
Net = tuple[Tensor, Tensor, Tensor]
"""Inner weights [NETS, NEURONS, size], inner biases and outer weights [NETS, NEURONS]."""


def networks(size: int, seed: int, concave: bool) -> Net:
    """Random networks whose kinks all pass near the middle of the domain; if concave, no neuron raises the margin."""
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(NETS, NEURONS, size, generator=generator, dtype=torch.float64)
    outer = torch.randn(NETS, NEURONS, generator=generator, dtype=torch.float64)
    through = 0.3 + 0.4 * torch.rand(NETS, NEURONS, size, generator=generator, dtype=torch.float64)
    return inner, -(inner * through).sum(2), -outer.abs() if concave else outer


def value(net: Net, x: Tensor) -> Tensor:
    """Each network's output at its own points x [NETS, P, size]: [NETS, P]."""
    inner, bias, outer = net
    return ((x @ inner.mT + bias[:, None]).relu() * outer[:, None]).sum(2)


def least(net: Net, x0: Tensor, threat: Threat) -> Tensor:
    """The least output of each network over the threat around its x0 [NETS, size]: [NETS]."""
    size = x0.shape[1]
    if threat.norm == "l2":
        angle, length = torch.linspace(0, 2 * torch.pi, 1441), torch.linspace(0, threat.radius, 101)[:, None]
        disc = torch.stack([length * angle.cos(), length * angle.sin()], -1).double().reshape(-1, 2)
        return value(net, x0[:, None] + disc).amin(1)
    if threat.norm == "l1":
        faces = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=size)), dtype=torch.float64)
        edges = threat.radius + x0 @ faces.T
    else:
        low, high = threat.box(x0)
        faces, edges = torch.cat([torch.eye(size), -torch.eye(size)]).double(), torch.cat([high, -low], 1)
    planes, sides = torch.cat([faces.expand(NETS, -1, -1), net[0]], 1), torch.cat([edges, -net[1]], 1)
    meeting = torch.combinations(torch.arange(planes.shape[1]), size)
    planes, sides = planes[:, meeting], sides[:, meeting]
    meets = torch.linalg.det(planes).abs() > 1e-9
    planes = torch.where(meets[:, :, None, None], planes, torch.eye(size).double())
    points = torch.linalg.solve(planes, sides)
    meets &= (points @ faces.T <= edges[:, None] + 1e-9).all(2)
    return torch.where(meets, value(net, points), torch.inf).amin(1)


@cache
def question(case: int, seed: int, concave: bool) -> tuple[Net, Tensor, Tensor, Tensor]:
    """Networks and inputs of a case, and the least and greatest margin [NETS] over its threat."""
    size, threat = CASES[case]
    net, x0 = networks(size, seed, concave), start(size, seed)
    return net, x0, least(net, x0, threat), -least((net[0], net[1], -net[2]), x0, threat)


def missed(attack: Any, case: int, seed: int, concave: bool) -> Tensor:
    """How far above the least margin the attack ended, as a share of the margin's range over the threat: [NETS]."""
    net, x0, low, high = question(case, seed, concave)

    def model(x: Tensor) -> Tensor:
        """One network a row: no row is ever refuted, so all come every time."""
        margin = value(net, x[:, None])[:, 0] - low + 1
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    found = run(attack, model, x0, torch.zeros(NETS, dtype=torch.long), CASES[case][1])
    return (found.margin - 1) / (high - low)


CASES = [
    (3, Linf(0.3)),
    (3, L1(0.25)),
    (2, L2(0.3)),
    (3, Box(lower=torch.tensor([0.1, 0.3, 0.2]).double(), upper=torch.tensor([0.6, 0.9, 0.5]).double())),
]
seeded = pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 6))])
cased = pytest.mark.parametrize("case", range(len(CASES)), ids=[threat.norm for _, threat in CASES])


def start(size: int, seed: int) -> Tensor:
    return 0.35 + 0.3 * torch.rand(NETS, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@seeded
@cased
@pytest.mark.parametrize("concave", [True, False], ids=["concave", "mixed"])
@pytest.mark.parametrize(
    ("attack", "within"),
    [
        (PGD(steps=50, step=0.05, restarts=6), 0.7),
        (APGD(steps=60, restarts=10), 0.8),
        (Square(queries=300), 0.5),
    ],
    ids=["PGD", "APGD", "Square"],
)
def test_most_margins_are_brought_to_within_a_hundredth(
    attack: Any, within: float, concave: bool, case: int, seed: int
) -> None:
    """Attacks end within 1 % of the margin's range on most networks, and on none below the truth.

    Not on all: concave margins have a local minimum at many a corner, and mixed ones may be least in a valley of kinks,
    where steps along few directions zigzag and random patches of a score-only attack seldom fall.
    """
    short = missed(attack, case, seed, concave)
    assert (short < 0.01).double().mean() >= within
    assert short.min() > -3e-3 if CASES[case][1].norm == "l2" else short.min() > -1e-6
