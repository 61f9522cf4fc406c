"""The Gibbs risk: how often a network errs whose weights are drawn around the trained ones."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.generalisation.checks import check_count, check_positive, check_share
from withstand.generalisation.layers import Layer
from withstand.generalisation.pac_bayes import kl_inverse
from withstand.graph.ir import Graph

BATCH = 1024
"""Samples of a pass."""

Errors = Callable[[Graph, Tensor, Tensor], Tensor]
"""From a network, inputs [B, *shape] and labels [B] to the losses [B] in [0, 1]."""


@dataclass(frozen=True)
class GibbsRisk:
    """mean: the average error over the draws of weights. upper: at least the risk of the posterior on these samples,
    with probability 1 - `delta` over the draws."""

    mean: float
    upper: float
    draws: int
    delta: float


def wrong(network: Graph, x: Tensor, y: Tensor) -> Tensor:
    """1 where the network's largest output is not that of the label, or an output is NaN, else 0: [B]."""
    outputs = network(x)
    return ((outputs.argmax(1) != y) | outputs.isnan().any(1)).double()


def gibbs_risk(
    graph: Graph,
    layers: list[Layer],
    x: Tensor,
    y: Tensor,
    *,
    sigma: float,
    draws: int = 100,
    delta: float = 0.005,
    seed: int = 0,
    errors: Errors = wrong,
) -> GibbsRisk:
    """The mean error on the samples of networks whose weights and biases are those of `graph` plus N(0, sigma^2).

    x [n, *shape], y int64 [n]. errors: another loss in [0, 1], such as one that counts samples not certified. The upper
    end holds by Chernoff's bound on the mean of independent draws, each in [0, 1]: kl(mean || risk) <= ln(1 / delta) /
    draws (Langford and Caruana 2001). Raises InputError when a loss lies outside [0, 1] or is NaN.
    """
    check_positive("sigma", sigma)
    check_count("The number of draws", draws)
    check_share("delta", delta)
    risks = []
    with torch.no_grad():
        for network in _networks(graph, layers, sigma, draws, seed):
            parts = [errors(network, a, b).double() for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)]
            risks.append(float(torch.cat(parts).mean()))
    if not all(0 <= risk <= 1 for risk in risks):
        raise InputError("The losses must be numbers from 0 to 1; scale or clip the loss.")
    mean = math.fsum(risks) / draws
    return GibbsRisk(mean, kl_inverse(min(1.0, mean * (1 + 1e-12)), math.log(1 / delta) / draws), draws, delta)


def _networks(graph: Graph, layers: list[Layer], sigma: float, draws: int, seed: int) -> Iterator[Graph]:
    """Copies of the graph with weights drawn anew each time; the graph itself stays as it is."""
    held = {graph.slot(name): graph.constant(name) for layer in layers for name in layer.constants}
    generator = torch.Generator(next(iter(held.values())).device).manual_seed(seed)
    for _ in range(draws):
        drawn = copy.deepcopy(graph)
        for slot, value in held.items():
            noise = torch.randn(value.shape, generator=generator, dtype=value.dtype, device=value.device)
            drawn.get_buffer(slot).copy_(value + sigma * noise)
        yield drawn
