"""Largest eigenvalues and leading directions of any matrices, those included at which LAPACK gives up."""

import torch
from torch import Tensor

LinAlgError = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]
"""What torch raises where LAPACK does not come to an end."""


def greatest_eigenvalues(gram: Tensor, *, below: bool = False) -> Tensor:
    """The largest eigenvalues [...] of Hermitian matrices [..., n, n] without negative eigenvalues, up to rounding.

    Where they hold no finite numbers infinity (`below`: zero). Where the iteration does not come to its end the trace,
    which is above (`below`: the largest entry on the diagonal, which is below).
    """
    finite = gram.isfinite().all(-1).all(-1)
    gram = torch.where(finite[..., None, None], gram, 0.0)
    try:
        found = torch.linalg.eigvalsh(gram)[..., -1]
    except LinAlgError:
        diagonal = gram.diagonal(dim1=-2, dim2=-1).real
        found = diagonal.amax(-1) if below else diagonal.sum(-1)
    return torch.where(finite, found, 0.0 if below else torch.inf)


def leading_directions(matrix: Tensor) -> Tensor:
    """Unit vectors [B, n] that matrices [B, m, n] make longest; where that cannot be had, along their longest row."""
    matrix = matrix.nan_to_num(0.0, 0.0, 0.0)
    try:
        return torch.linalg.svd(matrix, full_matrices=False)[2][:, 0]
    except LinAlgError:
        size = matrix.norm(dim=2)
        longest = matrix[torch.arange(len(matrix)), size.argmax(1)]
        return longest / longest.norm(dim=1, keepdim=True).clamp(min=torch.finfo(matrix.dtype).tiny)
