"""The order in which targets are tried: nearest first."""

from collections.abc import Generator

import torch
from torch import Tensor

from withstand.core.evidence import Ask, Told
from withstand.core.shapes import flattened
from withstand.core.threat import Threat

DUAL = {"linf": 1.0, "box": 1.0, "l2": 2.0, "l1": torch.inf, "l0": torch.inf, "patch": 1.0}
"""The norm that says how much a gradient can change a margin, by the norm of the change."""


def by_margin(told: Told, count: int) -> Tensor:
    """The targets of smallest margin where the answer was given, least first: [B, min(count, T)]."""
    assert told.targets is not None
    margins = told.targets.nan_to_num(torch.inf)
    return margins.argsort(dim=1, stable=True)[:, :count]


def by_distance(x0: Tensor, threat: Threat, count: int, among: int = 20) -> Generator[Ask, Told, Tensor]:
    """The targets whose margin divided by the size of its gradient at x0 is smallest, least first (Melamed et al. 2024,
    arXiv:2407.02240): [B, min(count, T)].

    among: how many of the smallest margins are compared; one backward pass each.
    """
    start = threat.start(x0)
    told = yield Ask(start)
    near = by_margin(told, among)
    told = yield Ask(start, grad=True, target=near)
    assert told.grad is not None
    size = torch.linalg.vector_norm(flattened(told.grad, 2), DUAL.get(threat.norm, 2.0), dim=2)
    ratio = (told.loss / size.clamp(min=1e-12)).nan_to_num(torch.inf)
    return near.gather(1, ratio.argsort(dim=1, stable=True)[:, :count])
