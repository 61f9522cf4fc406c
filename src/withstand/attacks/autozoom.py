"""AutoZOOM: zeroth order optimisation in a smaller space, with few random directions."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from withstand.attacks.parts.codec import load
from withstand.attacks.parts.labels import length
from withstand.attacks.parts.probing import Adam, several, total
from withstand.attacks.parts.weights import Weights
from withstand.attacks.square import as_images
from withstand.core.errors import InputError
from withstand.core.evidence import Ask
from withstand.core.registry import Count, Positive, attack
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search
from withstand.core.threat import Threat, rowwise

TILE = 16
"""Codes decoded at once: always as many, so that no row depends on the batch."""

Decode = Callable[[Tensor], Tensor]


@attack
class Autozoom:
    """Descend on squared distance plus a weight times the margin where it is positive, in a space smaller than the
    image's, on slopes from a few random directions: one until the first violation, then more to fine-tune it (Tu et
    al. 2019, arXiv:1805.11770).

    queries: at most so many a sample. space: bilinear (a coarse grid, scaled up) or autoencoder (codes of a decoder).
    side: of the coarse grid. decoder: path of the decoder, a file that `withstand.attacks.parts.codec.train` stored or
    an ONNX network; a code of zero changes nothing. directions: random ones a step after the first violation. rate:
    length of a step, 0.02 where the paper has 0.01. width: of the differences. weight: the first one; as in the
    released code 10 times the default there. steps: after which the weight is bisected, or raised tenfold.
    Unlike in the released code, the part of the slope that comes from the distance is computed, for it needs no
    queries; only the margin's is estimated.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    access: ClassVar[Access] = Access.SCORES
    minimal: ClassVar[bool] = True

    queries: Count = 5000
    space: Literal["bilinear", "autoencoder"] = "bilinear"
    side: Count = 14
    decoder: str = ""
    directions: Count = 4
    rate: Positive = 0.02
    width: Positive = 0.01
    weight: Positive = 10.0
    steps: Count = 100

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        """One ask a step: the point and its neighbours in the random directions."""
        images = as_images(x0)
        decode, shape = self._space(images)
        code, adam = images.new_zeros(len(x0), *shape), Adam(images.new_zeros(len(x0), *shape))
        weights, taken = Weights(self.weight, x0.new_zeros(len(x0))), x0.new_zeros(len(x0))
        met = torch.zeros_like(taken, dtype=torch.bool)
        fine, spent = met, torch.zeros_like(taken, dtype=torch.long)
        turn = 0
        while True:
            going = spent + 1 + torch.where(fine, self.directions, 1) <= self.queries
            if not bool(going.any()):
                return
            turn += 1
            now, change = torch.zeros_like(met), torch.zeros_like(code)
            for rows, count in ((going & ~fine, 1), (going & fine, self.directions)):
                if not bool(rows.any()):
                    continue
                u = rng.fork(2 * turn + (count > 1)).normal((count, *shape), code.dtype)
                u = u / several(length(u.flatten(0, 1), "l2").reshape(len(u), count).clamp(min=1e-12), u)
                codes = torch.cat([code[:, None], code[:, None] + self.width * u], 1)
                delta = decode(codes.flatten(0, 1)).reshape(len(code), 1 + count, *images.shape[1:])
                points = (images[:, None] + delta).clamp(*threat.domain)
                told = yield Ask(points.reshape(len(x0), 1 + count, *x0.shape[1:]), rows=rows)
                hinge = told.margin.clamp(min=0)
                rise = ((hinge[:, 1:] - hinge[:, :1]) / self.width).nan_to_num(0.0, 0.0, 0.0)
                slope = total(several(rise, u) * u) * (u[0, 0].numel() / count) * rowwise(weights.value, code).to(code)
                slope = slope + _distance_slope(decode, code, images, threat)
                change = torch.where(rowwise(rows, code), slope, change)
                now = now | (rows & (told.margin <= 0).any(1))
                spent = spent + (1 + count) * rows
                going = going & (told.live | ~rows)
            met, taken = met | now, taken + going
            adam.forget(now & ~fine)
            fine = fine | now
            code = code - torch.where(rowwise(going, code), self.rate * adam.step(change), 0.0)
            ended = taken >= self.steps
            weights.close(ended, met)
            adam.forget(ended)
            taken, met = taken.masked_fill(ended, 0.0), met & ~ended
            spent = torch.where(going, spent, self.queries)

    def _space(self, images: Tensor) -> tuple[Decode, tuple[int, ...]]:
        """What makes changes [N, C, H, W] from codes [N, *shape], and that shape."""
        channels, height, width = images.shape[1:]
        if self.space == "bilinear":
            size = min(self.side, height), min(self.side, width)
            return lambda code: functional.interpolate(code, (height, width), mode="bilinear"), (channels, *size)
        if not self.decoder:
            raise InputError("AutoZOOM's space 'autoencoder' needs a decoder, so give decoder=FILE or space=bilinear.")
        network, shape = load(self.decoder, (channels, height, width))
        nothing = _tiled(network, images.new_zeros(1, *shape))
        return lambda code: _tiled(network, code) - nothing, shape


def _tiled(network: Decode, code: Tensor) -> Tensor:
    missing = -len(code) % TILE
    filled = torch.cat([code, code.new_zeros(missing, *code.shape[1:])])
    return torch.cat([network(part) for part in filled.split(TILE)])[: len(code)]


def _distance_slope(decode: Decode, code: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """The gradient of the squared distance by the code."""
    with torch.enable_grad():
        leaf = code.detach().requires_grad_()
        delta = (images + decode(leaf)).clamp(*threat.domain) - images
        return torch.autograd.grad(delta.square().sum(), leaf)[0].detach()
