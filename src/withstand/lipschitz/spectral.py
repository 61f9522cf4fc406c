"""Norms of matrices from above, with room for rounding."""

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps


def spectral(matrix: Tensor) -> Tensor:
    """Upper bounds [...] of the largest singular values of matrices [..., m, n], real or complex, in float64.

    By the eigenvalues of the smaller Gram matrix; what rounding can hide in the product (Higham 2002, section 3.5) and
    in the eigenvalues (a small multiple of their number times the norm) is added, so that the bound is never below.
    """
    rows, columns = matrix.shape[-2:]
    gram = matrix @ matrix.mH if rows <= columns else matrix.mH @ matrix
    if not gram.numel():
        return matrix.real.new_zeros(matrix.shape[:-2])
    room = 4 * (rows + columns) * EPS * matrix.abs().square().sum((-2, -1))
    largest = torch.linalg.eigvalsh(gram)[..., -1] if gram.shape[-1] > 1 else gram[..., 0, 0].real
    return (largest.clamp(min=0) + room).sqrt() * (1 + EPS)


def matrix_norm(matrix: Tensor, p: float) -> float:
    """An upper bound of the norm of a matrix [m, n] between vectors measured in p: 1, 2 or inf."""
    if p == 2:
        return float(spectral(matrix))
    sums = matrix.abs().sum(0 if p == 1 else 1)
    return float(sums.max()) * (1 + len(matrix) * EPS) if sums.numel() else 0.0
