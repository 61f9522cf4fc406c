"""SeqLip: the largest norm over all slopes of one layer at a time, with the layers' singular vectors in between."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from withstand.core.shapes import flattened
from withstand.core.spectra import LinAlgError, greatest_eigenvalues
from withstand.lipschitz.chain import Chain
from withstand.lipschitz.slopes import Slopes
from withstand.lipschitz.spectral import EPS, spectral

MOST = 18
"""Layers of at most so many neurons are enumerated: 2^18 patterns."""

WIDEST = 1024
"""Chains with wider layers are not searched: their singular vectors take long, for an estimate."""

STARTS = 16
"""Patterns from which the search for a large norm begins."""

TURNS = 1000
"""Turns of that search at most."""

CHUNK = 2**22
"""Numbers of the matrices that are looked at together."""

SQUARINGS = 3
"""Gram matrices are squared so often before their trace says which patterns cannot be the largest."""


@dataclass(frozen=True, eq=False)
class SeqLip:
    """prod over the hidden layers i of max over D of |S~_{i+1} V_{i+1}^T D U_i S~_i|, for M_i = U_i S_i V_i^T and D
    diagonal with the layer's slopes; S~ is S for the first and the last matrix and its square root for others (Virmaux
    and Scaman 2018, arXiv:1805.10965).

    certified: whether the maxima are exact, by enumeration; else they come from a greedy search, which may miss the
    largest, and the product is an estimate that can lie below the true constant.
    """

    chain: Chain
    certified: bool

    @cached_property
    def value(self) -> float:
        """The bound or estimate for the whole output."""
        if not self.chain.slopes:
            return float(spectral(self.chain.matrices[0]))
        last = self._parts[-1]
        return self._inner * float(self._most(last[0], last[1], self.chain.slopes[-1]))

    def rows(self, rows: Tensor) -> Tensor:
        """Those [R] of linear functions of the output, rows [R, O] in float64."""
        last = rows @ self.chain.matrices[-1]
        if not (self.chain.slopes and len(rows)):
            return torch.linalg.vector_norm(last, dim=1) * (1 + 8 * last.shape[1] * EPS)
        right = self._parts[-1][1]
        found = [self._most(row[None], right, self.chain.slopes[-1]) for row in last]
        return self._inner * torch.stack(found)

    @cached_property
    def _parts(self) -> list[tuple[Tensor, Tensor]]:
        """For each hidden layer the matrices S~ V^T and U S~ on its two sides."""
        split = [torch.linalg.svd(matrix, full_matrices=False) for matrix in self.chain.matrices]
        last = len(split) - 1
        roots = [s if i in (0, last) else s.sqrt() for i, (_, s, _) in enumerate(split)]
        left = [root[:, None] * vt for root, (_, _, vt) in zip(roots, split, strict=True)]
        right = [u * root for root, (u, _, _) in zip(roots, split, strict=True)]
        return list(zip(left[1:], right[:-1], strict=True))

    @cached_property
    def _inner(self) -> float:
        """The product over all hidden layers but the last."""
        found = 1.0
        for (left, right), limits in zip(self._parts[:-1], self.chain.slopes[:-1], strict=True):
            found *= float(self._most(left, right, limits))
        return found

    def _most(self, left: Tensor, right: Tensor, limits: Slopes) -> Tensor:
        search: Callable[[Tensor, Tensor, Slopes], Tensor] = enumerated if self.certified else greedy
        return search(left, right, limits)


def seqlip(chain: Chain) -> SeqLip | str:
    """Exact where every hidden layer is small enough to enumerate, else greedy; a sentence where one is too wide."""
    widest = max(chain.widths, default=0)
    if widest > WIDEST:
        return f"a hidden layer has {widest} neurons, more than {WIDEST}"
    found = SeqLip(chain, widest <= MOST)
    try:
        _ = found._parts
    except LinAlgError:
        return "the singular vectors of a matrix cannot be computed"
    return found


def enumerated(left: Tensor, right: Tensor, limits: Slopes) -> Tensor:
    """The largest norm of left @ diag(s) @ right, left [l, n] and right [n, r], over all s with entries in the limits:
    a scalar, rounded upwards. The norm is convex in s, so the corners are enough."""
    best = greedy(left, right, limits) ** 2
    room = 1 + 64 * max(*left.shape, *right.shape) * EPS
    for corners in _corners(left.shape[1], limits, left, right):
        gram = _gram(left, right, corners)
        kept = gram[_ceiling(gram) >= best]
        if len(kept):
            best = torch.maximum(best, greatest_eigenvalues(kept).max())
    return best.sqrt() * room


def greedy(left: Tensor, right: Tensor, limits: Slopes) -> Tensor:
    """A large norm of left @ diag(s) @ right over all s with entries in the limits: a scalar, at most the largest.

    From several starts, s and the two unit vectors u and v of u^T left diag(s) right v are each in turn the best for
    the other two, until no value grows any more.
    """
    made = torch.Generator().manual_seed(0)
    v = torch.randn(STARTS, right.shape[1], generator=made, dtype=left.dtype)
    s = left.new_full((STARTS, left.shape[1]), max(limits, key=abs))
    low, high = left.new_tensor(sorted(limits))
    best = left.new_zeros(STARTS)
    for _ in range(TURNS):
        out = (_unit(v) @ right.T * s) @ left.T
        push, reach = _unit(out) @ left, (v := _unit((_unit(out) @ left * s) @ right)) @ right.T
        s = torch.where(push * reach >= 0, high, low)
        values = ((reach * s) @ left.T).norm(dim=1)
        if bool((values <= best * (1 + 1e-12)).all()):
            break
        best = torch.maximum(best, values)
    return best.max()


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)


def _corners(n: int, limits: Slopes, *sizes: Tensor) -> Iterator[Tensor]:
    """All vectors [P, n] of the two limits, some at a time."""
    rows = max(1, CHUNK // (n * min(len(sizes[0]), sizes[1].shape[1])))
    places = torch.arange(n)
    ends = torch.tensor(limits, dtype=torch.float64)
    for codes in torch.arange(2**n).split(rows):
        yield ends[(codes[:, None] >> places) & 1]


def _gram(left: Tensor, right: Tensor, s: Tensor) -> Tensor:
    """The smaller Gram matrices [P, k, k] of left @ diag(s) @ right."""
    found = (left * s[:, None]) @ right
    return found @ found.mT if found.shape[1] <= found.shape[2] else found.mT @ found


def _ceiling(gram: Tensor) -> Tensor:
    """Numbers [P] no smaller than the largest eigenvalues: of a power of the matrix, by its Frobenius norm."""
    power, scale = gram, gram.new_zeros(len(gram))
    for _ in range(SQUARINGS):
        size = flattened(power).norm(dim=1).clamp(min=torch.finfo(power.dtype).tiny)
        scale = 2 * (scale + size.log())
        power = power / size[:, None, None]
        power = power @ power
    size = flattened(power).norm(dim=1).clamp(min=torch.finfo(power.dtype).tiny)
    return ((scale + size.log()) / 2**SQUARINGS).exp() * (1 + 1e-9)
