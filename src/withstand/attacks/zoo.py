"""ZOO: zeroth order optimisation, coordinate by coordinate."""

from collections.abc import Generator
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from withstand.attacks.parts.coordinates import CoordinateAdam, differences, importance, newton, pick
from withstand.attacks.parts.probing import points_an_ask, probe_width, several
from withstand.attacks.parts.weights import Weights
from withstand.attacks.square import as_images
from withstand.core.evidence import Ask, Told
from withstand.core.registry import Count, Natural, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.shapes import flattened
from withstand.core.threat import Threat

PATIENCE = 100
"""Steps after which a weight's search ends at rows whose loss has not fallen."""


@attack
class ZOO:
    """Descend on squared distance plus a weight times the margin where it is positive, along random coordinates whose
    slopes are differences of scores (Chen et al. 2017, arXiv:1708.03999). The margin of logits is that of
    log-probabilities, which the paper takes.

    queries: at most so many a sample. coordinates: of one step, 2 queries each; the paper has 128, a quarter of which
    gets nearer for the same queries. solver: adam, or newton with each coordinate's curvature. rate: length of a step.
    width: of the differences, as a share of the domain; wider than the released code's 1e-4, which drowns in the
    rounding of float32. weight: the first one. searches: weights that fit into the queries; after each the weight is
    bisected, and the search goes on from where it is. side: of a coarse grid on which the search begins and which
    doubles until it is the image's own, each for an equal share of the queries (0: the image's own throughout).
    sampling: `importance` prefers coordinates near large changes, and unlike in the released code is up to date at
    every step; or `uniform`.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    access: ClassVar[Access] = Access.SCORES
    minimal: ClassVar[bool] = True

    queries: Count = 20000
    coordinates: Count = 32
    solver: Literal["adam", "newton"] = "adam"
    rate: Positive = 0.05
    width: Positive = 0.001
    weight: Positive = 1.0
    searches: Count = 4
    side: Natural = 0
    sampling: Literal["importance", "uniform"] = "importance"

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """The asks of one set of coordinates a step."""
        images = as_images(x0)
        sizes = _sizes(self.side, images)
        moves, count = images.new_zeros(*images.shape[:2], *sizes[0]), min(self.coordinates, images[0].numel())
        steps = max(1, self.queries // (2 * count + 1))
        weights, most = Weights(self.weight, x0.new_zeros(len(x0))), max(1, steps // self.searches)
        adam = CoordinateAdam(flattened(moves))
        taken, met = torch.zeros_like(weights.value), torch.zeros_like(weights.value, dtype=torch.bool)
        before = torch.full_like(weights.value, torch.inf)
        for step in range(steps):
            size = sizes[step * len(sizes) // steps]
            if size != tuple(moves.shape[2:]):
                moves = functional.interpolate(moves, size, mode="bilinear")
                adam = CoordinateAdam(flattened(moves))
            chances = importance(moves) if self.sampling == "importance" else flattened(torch.ones_like(moves))
            index = pick(chances, min(count, chances.shape[1]), rng)
            line = _Line(images, moves, index, threat, probe_width(threat, self.width))
            told, value, slope, bend = yield from line.measure(x0.shape, weights.value)
            stride = newton(slope, bend) if self.solver == "newton" else adam.step_at(index, slope.to(moves))
            flat = flattened(moves)
            flat = flat.scatter_add(1, index, -self.rate * stride.to(flat))
            moves = line.inside(flat.reshape(moves.shape))
            taken, met = taken + 1, met | (told <= 0)
            stuck = (taken % PATIENCE == 0) & (value > 0.9999 * before)
            before = torch.where(taken % PATIENCE == 0, value, before)
            ended = stuck | (taken >= most)
            weights.close(ended, met)
            adam.forget(ended)
            taken, met = taken.masked_fill(ended, 0), met & ~ended
            before = before.masked_fill(ended, torch.inf)


def _sizes(side: int, images: Tensor) -> list[tuple[int, int]]:
    """Heights and widths of the grids that the search goes through, the image's own last."""
    own, sizes = (images.shape[2], images.shape[3]), []
    while 0 < side < max(own):
        sizes.append((min(side, own[0]), min(side, own[1])))
        side *= 2
    return [*sizes, own]


class _Line:
    """Moves [B, C, h, w] of images, and steps of some width up and down along the coordinates `index` [B, P]."""

    def __init__(self, images: Tensor, moves: Tensor, index: Tensor, threat: Threat, width: float) -> None:
        self.images, self.moves, self.index, self.threat, self.width = images, moves, index, threat, width

    def inside(self, moves: Tensor) -> Tensor:
        """Moves on the image's own grid, kept from leaving the domain."""
        if moves.shape[2:] != self.images.shape[2:]:
            return moves
        return (self.images + moves).clamp(*self.threat.domain) - self.images

    def _points(self, moves: Tensor) -> Tensor:
        """The images [B, P, C, H, W] of moves [B, P, C, h, w]."""
        if moves.shape[3:] != self.images.shape[2:]:
            flat = functional.interpolate(moves.flatten(0, 1), self.images.shape[2:], mode="bilinear")
            moves = flat.reshape(*moves.shape[:2], *self.images.shape[1:])
        return (self.images[:, None] + moves).clamp(*self.threat.domain)

    def measure(self, shape: torch.Size, weight: Tensor) -> Generator[Ask, Told, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The margin [B] and the loss [B] at the moves, and the loss's slope and curvature [B, P]."""
        flat, index = flattened(self.moves), self.index
        here = flat.gather(1, index)
        low, high = (-torch.inf, torch.inf)
        up, down = here + self.width, here - self.width
        if self.moves.shape[2:] == self.images.shape[2:]:
            low, high = ((edge - flattened(self.images)).gather(1, index) for edge in self.threat.domain)
            up, down = up.minimum(high), down.maximum(low)
        values: list[Tensor] = []
        margins: list[Tensor] = []
        ends = torch.cat([here[:, :1], up, down], 1)
        places = torch.cat([index[:, :1], index, index], 1)
        part = points_an_ask(tuple(shape[1:]), ends.shape[1])
        for end, place in zip(ends.split(part, 1), places.split(part, 1)):
            moved = flat[:, None].expand(-1, end.shape[1], -1).clone()
            moved.scatter_(2, place[:, :, None], end[:, :, None])
            points = self._points(moved.reshape(len(flat), -1, *self.moves.shape[1:]))
            told = yield Ask(points.reshape(len(flat), -1, *shape[1:]))
            far = flattened(points - self.images[:, None], 2).double().square().sum(2)
            margins.append(told.margin.double())
            values.append(far + several(weight[:, None], far) * told.margin.double().clamp(min=0))
        value = torch.cat(values, 1).nan_to_num(0.0, 0.0, 0.0)
        count = index.shape[1]
        slope, bend = differences(
            value[:, :1], value[:, 1 : 1 + count], value[:, 1 + count :], (up - here).double(), (here - down).double()
        )
        return torch.cat(margins, 1)[:, 0], value[:, 0], slope, bend
