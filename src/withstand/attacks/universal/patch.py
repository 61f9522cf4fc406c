"""A printed patch that fools wherever it is put."""

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from withstand.attacks.parts.epochs import cross_entropy, generator, shuffled
from withstand.core.images import image_shape
from withstand.core.patch import Patch as Window
from withstand.core.registry import Count, Positive, universal
from withstand.core.rng import RowRandom
from withstand.core.runner import Access
from withstand.core.sparse import EDGE
from withstand.core.spatial import as_images, bilinear, from_images
from withstand.core.threat import Threat
from withstand.core.universal import Model, State, predictions


@universal
class Patch:
    """Print one round patch that fools the model wherever it is put, turned and scaled (Brown et al. 2017,
    arXiv:1712.09665).

    The threat `patch:HEIGHTxWIDTH` gives its size. Every use draws a place in the image, an angle and a scale; the
    patch is trained by Adam on the cross-entropy to the model's own predictions over such draws. What is measured is
    one draw a sample.

    turn: largest angle in degrees. smallest: least scale, of the full size. epochs, batch, rate: of the training. The
    patch is an ellipse that fills its window, so that it stays inside however it is turned. Pixels outside it do not
    change at all.
    """

    norms: ClassVar[tuple[str, ...]] = ("patch",)
    access: ClassVar[Access] = Access.GRADIENT
    loss: ClassVar[str] = "ce"

    turn: Annotated[float, Ge(0), Le(180)] = 22.5
    smallest: Annotated[float, Gt(0), Le(1)] = 0.6
    epochs: Count = 20
    batch: Count = 128
    rate: Positive = 0.05

    def fit(self, model: Model, x: Tensor, threat: Threat, seed: int, state: State | None) -> Iterator[State]:
        """An epoch goes once over the inputs."""
        own, state = predictions(model, x), state or self._begin(x, threat, seed)
        low, high = threat.domain
        while int(state["epoch"]) < self.epochs:
            chance = generator(seed, int(state["epoch"]), "places")
            for rows in shuffled(len(x), self.batch, seed, int(state["epoch"])):
                draw = torch.rand(len(rows), 4, generator=chance).to(x)
                rows = rows.to(x.device)
                with torch.enable_grad():
                    leaf = state["patch"].clone().requires_grad_()
                    gain = cross_entropy(model, self._put(leaf, x[rows], draw), own[rows]).mean()
                    (slope,) = torch.autograd.grad(gain, leaf)
                state = self._climb(state, slope, (low, high))
            state = {**state, "epoch": state["epoch"] + 1}
            yield state

    def apply(self, state: State, x0: Tensor, threat: Threat, rng: RowRandom) -> Tensor:
        """x0 with the patch at a place, angle and scale of its own in every row."""
        return threat.project(x0, self._put(state["patch"].to(x0), x0, rng.uniform((4,), x0.dtype)))

    @staticmethod
    def _begin(x: Tensor, threat: Threat, seed: int) -> State:
        assert isinstance(threat, Window)
        channels, *sides = image_shape(x.shape[1:])
        window = [min(n, max(1, int(threat.radius * side + EDGE))) for n, side in zip(sides, threat.window)]
        low, high = threat.domain
        shape = (1, channels, *window)
        patch = (low + (high - low) * torch.rand(shape, generator=generator(seed, 0, "patch"))).to(x)
        zero = torch.zeros_like(patch)
        return {"epoch": torch.tensor(0), "steps": torch.tensor(0), "patch": patch, "first": zero, "second": zero}

    def _climb(self, state: State, slope: Tensor, domain: tuple[float, float]) -> State:
        """A step of Adam upwards, inside the domain."""
        steps = state["steps"] + 1
        first, second = 0.9 * state["first"] + 0.1 * slope, 0.999 * state["second"] + 0.001 * slope**2
        scaled = (first / (1 - 0.9 ** int(steps))) / ((second / (1 - 0.999 ** int(steps))).sqrt() + 1e-12)
        patch = (state["patch"] + self.rate * (domain[1] - domain[0]) * scaled).clamp(*domain)
        return {**state, "steps": steps, "patch": patch, "first": first, "second": second}

    def _put(self, patch: Tensor, x: Tensor, draw: Tensor) -> Tensor:
        """x [B, *shape] with the patch put on as the numbers draw [B, 4] in [0, 1) say: down, across, angle, scale."""
        images = as_images(x)
        height, width = images.shape[2:]
        tall, wide = patch.shape[2:]
        top = (draw[:, 0] * (height - tall + 1)).floor()[:, None, None]
        left = (draw[:, 1] * (width - wide + 1)).floor()[:, None, None]
        turn = math.radians(self.turn) * (2 * draw[:, 2, None, None] - 1)
        scale = self.smallest + (1 - self.smallest) * draw[:, 3, None, None]
        down, across = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (height, width))
        v = (down[:, None] - top - (tall - 1) / 2) / (tall / 2)  # in [-1, 1] inside the window
        u = (across - left - (wide - 1) / 2) / (wide / 2)
        back_v = (torch.cos(turn) * v + torch.sin(turn) * u) / scale
        back_u = (torch.cos(turn) * u - torch.sin(turn) * v) / scale
        inside = (back_v.square() + back_u.square() <= 1)[:, None]
        places = back_v * (tall / 2) + (tall - 1) / 2, back_u * (wide / 2) + (wide - 1) / 2
        painted = bilinear(patch.expand(len(x), -1, -1, -1), *places)
        return from_images(torch.where(inside, painted, images), x)
