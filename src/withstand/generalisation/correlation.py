"""Weight correlation: how alike the neurons of a layer are, and what that costs in a PAC-Bayes bound.

For a fully connected layer of N neurons, rho is the mean of |cos| between the incoming weight vectors of two different
neurons. For a convolution it is the mean, over input channels and pairs of output channels, of |cos| between the two
kernels on that channel. A posterior whose weights correlate by rho between the neurons of a layer has, against an
uncorrelated prior, a KL divergence that is larger by g / 2 with

    g(rho) = -M ((N - 1) ln(1 - rho) + ln(1 + (N - 1) rho)) = -M ln det((1 - rho) I + rho 1 1')

where M is the number of weights of one neuron. Reference: Jin et al. 2020, arXiv:2010.05983.

Where the released code differs from this, the paper's definition is kept: pairs of a neuron with itself do not count,
all inputs of a layer count, the second logarithm has the same sign for both kinds of layers, and the same rho, that of
absolute cosines, stands everywhere. M counts every weight of a convolution's kernel (our reading; the code counts input
channels), so that g is twice a KL divergence for convolutions too.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.generalisation.checks import check_positive

CELLS = 2**24
"""Cosines that are held at a time."""


def weight_correlation(weight: Tensor, groups: int = 1) -> Tensor:
    """rho of a layer, a scalar in [0, 1] with gradients.

    weight: [out, in] of a fully connected layer, or [out, in / groups, *kernel] of a convolution. A layer of one neuron
    (or one a group) has 0, and so does a neuron without weights; scaling a neuron by any number changes nothing. Raises
    InputError for convolutions with one weight a kernel, whose cosines are all 1.
    """
    vectors = _vectors(weight, groups)
    blocks, neurons, _ = vectors.shape
    if neurons == 1:
        return weight.sum() * 0
    units = torch.nn.functional.normalize(vectors, dim=2)
    total = torch.zeros((), dtype=weight.dtype, device=weight.device)
    for part in units.split(max(1, CELLS // neurons**2)):
        cosines = part @ part.transpose(1, 2)
        total = total + cosines.abs().sum() - cosines.diagonal(dim1=1, dim2=2).sum()
    return (total / (blocks * neurons * (neurons - 1))).clamp(0, 1)


def correlation_divergence(rho: Tensor | float, neurons: int, weights: int, groups: int = 1) -> Tensor:
    """g(rho) in nats, a scalar with gradients: twice what correlation adds to the KL divergence; infinite for rho = 1.

    neurons: N, those of the layer. weights: M, those of one neuron. groups: of a convolution, whose neurons correlate
    within their group only.
    """
    rho = rho if isinstance(rho, Tensor) else torch.tensor(rho, dtype=torch.float64)
    if not bool((rho >= 0) & (rho <= 1)):
        raise InputError(f"The correlation is {float(rho):g}; give a number from 0 to 1.")
    each = neurons // groups
    if each == 1:
        return rho * 0
    return -groups * weights * ((each - 1) * torch.log1p(-rho) + torch.log1p((each - 1) * rho))


def layer_divergence(weight: Tensor, groups: int = 1) -> Tensor:
    """g of a layer from its weights, as `weight_correlation` takes them."""
    rho = weight_correlation(weight, groups)
    return correlation_divergence(rho, weight.shape[0], math.prod(weight.shape[1:]), groups)


def correlated_kl(distance: float, sigma: float, divergences: Sequence[float]) -> float:
    """KL of a posterior N(w, sigma^2 C), with the correlations of each layer in C, from the prior N(w0, sigma^2 I).

    distance: ||w - w0||. divergences: g of every layer. It is distance^2 / (2 sigma^2) + sum of g / 2, in nats.
    """
    check_positive("sigma", sigma)
    check_positive("The distance of the means", distance, zero=True)
    return distance**2 / (2 * sigma**2) + math.fsum(divergences) / 2


def is_correlated(weight: Tensor) -> bool:
    """Whether rho is defined for a layer's weights: all but convolutions with one weight a kernel."""
    return weight.dim() == 2 or (weight.dim() > 2 and math.prod(weight.shape[2:]) > 1)


def _vectors(weight: Tensor, groups: int) -> Tensor:
    """The vectors to compare: [blocks, neurons, length]; cosines are taken within a block."""
    if not is_correlated(weight):
        raise InputError(
            f"Weights of shape {tuple(weight.shape)} have no weight correlation; it takes fully connected layers and "
            "convolutions with more than one weight a kernel."
        )
    if weight.dim() == 2:
        return weight[None]
    out, channels = weight.shape[:2]
    if out % groups:
        raise InputError(f"{out} output channels do not divide into {groups} groups.")
    kernels = weight.reshape(groups, out // groups, channels, -1)
    return kernels.transpose(1, 2).reshape(groups * channels, out // groups, -1)
