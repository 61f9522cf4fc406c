"""auto_LiRPA's CROWN and alpha-CROWN of the same rows over the same boxes as ours."""

import warnings
from importlib import import_module

import torch
from torch import Tensor

from contest.plain import plain
from withstand.core.property import Rows
from withstand.core.threat import Threat
from withstand.graph.ir import Graph

METHODS = {"crown": "CROWN", "alpha-crown": "CROWN-Optimized"}
STEPS = 20
"""Gradient steps of alpha-CROWN, its own default; ours takes as many."""


class Lirpa:
    """A network as auto_LiRPA holds it. batch: images bounded together. Raises ImportError where it is missing."""

    def __init__(self, graph: Graph, x0: Tensor, batch: int) -> None:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        self.package, self.batch = import_module("auto_LiRPA"), batch
        options = {"optimize_bound_args": {"iteration": STEPS}}
        self.network = self.package.BoundedModule(plain(graph), x0[:1], bound_opts=options, device="cpu")

    def lower(self, method: str, threat: Threat, x0: Tensor, rows: Rows) -> Tensor:
        """Lower bounds [B, R] of the rows by one of METHODS."""
        found = []
        for part in torch.arange(len(x0)).split(self.batch):
            low, high = threat.pick(part, x0).box(x0[part])
            box = self.package.PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high)
            at = self.package.BoundedTensor(x0[part], box)
            with torch.enable_grad():
                found.append(
                    self.network.compute_bounds(
                        x=(at,), C=rows.weight[part], method=METHODS[method], bound_upper=False
                    )[0].detach()
                )
        return torch.cat(found) + rows.offset
