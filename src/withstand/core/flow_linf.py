"""Pixels that move and change at once: a flow field and additive noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from withstand.core.images import image_shape
from withstand.core.rng import RowRandom
from withstand.core.spatial import Flow, Moves, as_images, from_images, roughness


@dataclass(frozen=True)
class FlowLinf(Moves):
    """A flow field of size `tau` at most, then noise of `eps` at most in every pixel (Zhang et al. 2020,
    arXiv:2010.07788).

    Moves are [B, 2 + channels, height, width]: the flow of the threat `flow`, then the noise. The radius is a factor on
    both limits.
    """

    radius: float = 1.0
    tau: float = 0.1
    eps: float = 0.03

    norm = "flow+linf"

    def _amount(self, number: Callable[[float], str]) -> str:
        return f"{number(self.tau * self.radius)},{number(self.eps * self.radius)}"

    @property
    def limits(self) -> tuple[float, float]:
        """The largest size of the flow and of the noise at radius 1."""
        return self.tau, self.eps

    def oversize(self, x0: Tensor) -> str | None:
        low, high = self.domain
        if self.eps * self.radius > high - low:
            return f"noise of {high - low:g} is already the whole domain [{low:g}, {high:g}]; give less"
        return self._flow.oversize(x0)

    @property
    def _flow(self) -> Flow:
        return Flow(self.tau * self.radius, self.domain, scale=self.scale)

    def start(self, x0: Tensor) -> Tensor:
        channels, height, width = image_shape(x0.shape[1:])
        return x0.new_zeros(len(x0), 2 + channels, height, width)

    def render(self, x0: Tensor, x: Tensor) -> Tensor:
        moved = as_images(self._flow.render(x0, x[:, :2]))
        return self._clamp(from_images(moved + x[:, 2:], x0))

    def sample(self, x0: Tensor, rng: RowRandom) -> Tensor:
        flow = self._flow.sample(x0, rng)
        noise = rng.uniform(image_shape(x0.shape[1:]), x0.dtype) * 2 - 1
        return torch.cat([flow, noise * self.eps * self.radii(noise)], 1)

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        most = self.eps * self.radii(x)
        return torch.cat([self._flow.project(x0, x[:, :2]), x[:, 2:].clamp(-most, most)], 1)

    def steepest(self, grad: Tensor, x: Tensor | None = None) -> Tensor:
        return torch.cat([self.tau * self._flow.steepest(grad[:, :2]), self.eps * grad[:, 2:].sign()], 1)

    def extreme(self, x0: Tensor, grad: Tensor) -> Tensor:
        return self.project(x0, -self.radii(grad) * self.steepest(grad))

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        sizes = torch.stack([roughness(x[:, :2]), x[:, 2:].double().abs().flatten(1).amax(1)], 1)
        return (sizes / sizes.new_tensor(self.limits)).nan_to_num(0.0, torch.inf).amax(1)
