"""Norms of matrices from above, with room for rounding."""

import torch
from torch import Tensor

from withstand.core.spectra import greatest_eigenvalues

EPS = torch.finfo(torch.float64).eps


def spectral(matrix: Tensor) -> Tensor:
    """Upper bounds [...] of the largest singular values of matrices [..., m, n], real or complex, in float64.

    By the eigenvalues of the smaller Gram matrix, scaled so that squares stay in range; what rounding can hide in the
    product (Higham 2002, section 3.5) and in the eigenvalues (a small multiple of their number times the norm) is
    added, so that the bound is never below.
    """
    rows, columns = matrix.shape[-2:]
    if not matrix.numel():
        return matrix.real.new_zeros(matrix.shape[:-2])
    scale = _power_of_two(matrix.detach().abs().amax((-2, -1)))
    matrix = matrix / scale[..., None, None]
    gram = matrix @ matrix.mH if rows <= columns else matrix.mH @ matrix
    room = 4 * (rows + columns) * EPS * matrix.abs().square().sum((-2, -1))
    largest = greatest_eigenvalues(gram) if gram.shape[-1] > 1 else gram[..., 0, 0].real
    return ((largest.clamp(min=0) + room).sqrt() * (1 + EPS) * scale).nan_to_num(torch.inf, torch.inf)


def _power_of_two(size: Tensor) -> Tensor:
    """The power of two near a size, by which numbers are divided without rounding; 1 where there is none."""
    power = 2.0 ** size.log2().round()
    return torch.where(power.isfinite() & (power > 0), power, 1.0)


def matrix_norm(matrix: Tensor, p: float) -> float:
    """An upper bound of the norm of a matrix [m, n] between vectors measured in p: 1, 2 or inf."""
    if p == 2:
        return float(spectral(matrix))
    sums = matrix.abs().sum(0 if p == 1 else 1)
    return float(sums.max()) * (1 + len(matrix) * EPS) if sums.numel() else 0.0
