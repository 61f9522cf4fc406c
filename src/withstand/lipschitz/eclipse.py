"""ECLipsE-Fast: an upper bound for chains that sees how one layer's directions meet the next one's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.spectra import LinAlgError
from withstand.lipschitz.chain import Chain
from withstand.lipschitz.slopes import Slopes
from withstand.lipschitz.spectral import EPS, spectral

WIDEST = 4096
"""Chains with wider layers are left to AutoLip: the work grows with the third power of the width."""

FLAT = 1e-6
"""Slopes whose middle is nearer to zero than this share of their largest count as symmetric, and those less far apart
than this share as so far apart: wider limits are sound."""


@dataclass(frozen=True, eq=False)
class Eclipse:
    """What a chain's hidden layers do to a change of the input: |dx|^2 >= dz^T X dz for the changes dz of the last one.

    half: X^(-1/2) as a symmetric matrix. last: the matrix after it. The bounds are certified.
    """

    half: Tensor
    last: Tensor

    @property
    def value(self) -> float:
        """An upper bound of the network's l2 constant: the square root of the largest eigenvalue of M_K X^-1 M_K^T."""
        return float(spectral(self.last @ self.half)) * self._room

    def rows(self, rows: Tensor) -> Tensor:
        """Those [R] of linear functions of the output, rows [R, O] in float64."""
        return torch.linalg.vector_norm(rows @ self.last @ self.half, dim=1) * self._room

    @property
    def _room(self) -> float:
        return 1 + 8 * len(self.half) * EPS


def eclipse(chain: Chain) -> Eclipse | str:
    """ECLipsE-Fast (Xu and Sivaranjani 2024, arXiv:2404.04375), in float64, every layer widened outwards by what
    rounding can hide; a sentence where the chain is too wide.

    The incremental quadratic constraint of the activation, times l for all neurons of a layer, is added to what is
    known of the layer before, and that layer minimised over, which leaves with T = W X^-1 W^T, m = (a + b) / 2 and p =
    a b for slopes [a, b] a new X = l I - m^2 l^2 T (I + p l T)^-1. The l that makes its least eigenvalue largest is
    closed: 1 / (h B t) with the largest eigenvalue t of T, h = (b - a) / 2 and B = max(|a|, |b|), for [0, 1] the
    paper's 1 / (2 m^2 t); for other slopes it is our derivation. That least eigenvalue is 1 / (B^2 t), which makes the
    bound at most AutoLip's.
    """
    if max(chain.widths, default=0) > WIDEST:
        return f"a hidden layer has {max(chain.widths)} neurons, more than {WIDEST}"
    half = torch.eye(chain.matrices[0].shape[1], dtype=torch.float64)
    for number, (matrix, limits) in enumerate(zip(chain.matrices, chain.slopes, strict=False)):
        try:
            half = _step(matrix if number == 0 else matrix @ half, limits)
        except LinAlgError:
            return "the eigenvectors of a layer cannot be computed"
    return Eclipse(half, chain.matrices[-1])


def _step(root: Tensor, limits: Slopes) -> Tensor:
    """The next X^(-1/2) [n, n] from W X^(-1/2) [n, k] and the limits of the slopes."""
    size = max(root.shape)
    left, squares = _eigen(root)
    top = float(squares.max() + 8 * size * EPS * squares.sum()) ** 0.5
    largest = max(map(abs, limits))
    if top == 0 or largest == 0:
        return root.new_zeros(len(root), len(root))
    low, high = limits
    if abs(low + high) / 2 < FLAT * largest:
        return torch.eye(len(root), dtype=root.dtype) * (largest * top * (1 + 8 * EPS))
    if high - low < FLAT * largest:
        low, high = (low - FLAT * largest, high) if high > -low else (low, high + FLAT * largest)
    middle, reach = (low + high) / 2, (high - low) / 2
    u = 1 / (reach * largest)
    share = squares / top**2
    kept = u - (middle * u) ** 2 * share / (1 + low * high * u * share)
    around = left * (kept.rsqrt() - u**-0.5)
    inverse_root = around @ left.T + torch.eye(len(root), dtype=root.dtype) * u**-0.5
    return inverse_root * (top * (1 + 32 * size * EPS * largest / reach))


def _eigen(root: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal columns [n, min(n, k)] and the eigenvalues of T = root root^T to them; all others are zero."""
    if len(root) <= root.shape[1]:
        squares, left = torch.linalg.eigh(root @ root.T)
        return left, squares.clamp(min=0)
    left, singular, _ = torch.linalg.svd(root, full_matrices=False)
    return left, singular.square()
