"""Manipulation at inference: a model that first moves its own input to where its outputs look clean."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.core.threat import rowwise
from withstand.graph.bpda import bpda
from withstand.hardening.parts.discriminator import Discriminator

UNSURE = (0.3, 0.7)
"""Between these chances of being clean a discriminator counts as unsure, as in the authors' code."""


class Manipulated(nn.Module):
    """A classifier that answers at x - size * sign(the gradient by x of how far its outputs are from looking clean), in
    place of x (Qian et al. 2021, arXiv:2107.04401, IMT).

    classifier: from x [B, *shape] to logits [B, K]. discriminator: that of its training by the objective `atld`
    (`withstand.hardening.parts.discriminator.discriminator(state.held, "atld")`). size: how far every coordinate moves,
    in the units of x; the authors take the radius of the threat, 8/255 for CIFAR-10. cautious: half as far where the
    discriminator is unsure (the authors' ATLD+). domain: lowest and highest value of an input.

    This is a dynamic defence: each answer takes a gradient. Attacks on the bare classifier whose points are then
    manipulated say nothing about it, and adaptive attacks undo most of what such defences promise (Croce et al. 2022,
    arXiv:2202.13711). So this module is to be attacked as it is: gradients pass through the move as through the
    identity (see `withstand.bpda`), which is what the move's derivative is wherever it has one, and attacks without
    gradients see it as it is anyway.
    """

    dynamic: ClassVar[bool] = True
    """Its answers come out of gradients or searches of their own."""

    def __init__(
        self,
        classifier: nn.Module,
        discriminator: Discriminator,
        size: float,
        cautious: bool = False,
        domain: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        if size < 0:
            raise InputError(f"An input cannot be moved by {size}; give a size of zero or more.")
        self.classifier, self.discriminator = classifier, discriminator
        self.size, self.cautious, self.domain = size, cautious, domain
        self.move = bpda(self.moved)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of the moved inputs."""
        if torch.compiler.is_exporting():
            raise InputError("a model that moves its inputs by its own gradient has no graph")
        return self.classifier(self.move(x))

    def moved(self, x: Tensor) -> Tensor:
        """Where the classifier answers, without a gradient."""
        with torch.inference_mode(False), torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            clean = self.discriminator(self.classifier(point)).clean
            (slope,) = torch.autograd.grad(F.softplus(-clean).sum(), point)
        step = torch.full_like(clean.detach(), self.size, dtype=x.dtype)
        if self.cautious:
            chance = clean.detach().sigmoid()
            step = torch.where((chance > UNSURE[0]) & (chance < UNSURE[1]), step / 2, step)
        return (x.detach() - rowwise(step, slope) * slope.sign()).clamp(*self.domain)
