"""A small network that tells the outputs of moved inputs from those of clean ones, trained beside the classifier."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.errors import InputError

WIDTH = 64
"""Neurons of each of the two hidden layers: our own choice."""

MOMENTUM, DECAY = 0.9, 2e-4
"""Of its training, as in the code of Qian et al. 2021 (arXiv:2107.04401)."""

Held = dict[str, Tensor]


class Judged(NamedTuple):
    """clean: logits [B] of being the output of a clean input. classes: logits [B, K] of the classes."""

    clean: Tensor
    classes: Tensor


class Discriminator(nn.Module):
    """From a classifier's logits [B, K] to how clean they look (over the whole distribution) and to their classes.

    Its activations are smooth, so that gradients through it exist everywhere.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(classes, WIDTH), nn.ELU(), nn.Linear(WIDTH, WIDTH), nn.ELU())
        self.clean, self.sort = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, classes)

    def forward(self, latents: Tensor) -> Judged:
        """Both answers to logits [B, K]."""
        inner = self.trunk(latents.float())
        return Judged(self.clean(inner).squeeze(1), self.sort(inner))


def gap(at_clean: Judged, at_moved: Judged) -> Tensor:
    """The discriminator's cross-entropy [B] of telling clean from moved: 2 log 2 where it cannot, 0 where it can."""
    return F.softplus(-at_clean.clean) + F.softplus(at_moved.clean)


def discriminator(held: Mapping[str, Tensor], name: str) -> Discriminator:
    """The discriminator whose weights a state holds under `name`, its weights constant.

    Raises InputError where there is none.
    """
    weights = {key.removeprefix(f"{name}.weights."): value for key, value in held.items() if f"{name}.weights." in key}
    if not weights:
        raise InputError(f"The state holds no discriminator of {name!r}; train with that objective first.")
    with torch.inference_mode(False):
        with torch.device("meta"):
            made = Discriminator(len(weights["sort.weight"]))
        made.load_state_dict({key: value.clone() for key, value in weights.items()}, assign=True)
        return made.requires_grad_(False).eval()


def begin(held: Held, name: str, like: Tensor, seed: int) -> None:
    """Put first weights into a state that holds none: uniform within 1 / sqrt(inputs), as torch's own, biases zero.

    like [B, K]: outputs of the classifier.
    """
    if f"{name}.weights.sort.weight" in held:
        return
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Discriminator(like.shape[1]).state_dict().items()}
    rng = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False):
        for key, shape in shapes.items():
            drawn = (2 * torch.rand(shape, generator=rng) - 1) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.0)
            held[f"{name}.weights.{key}"] = drawn.to(like.device)
            held[f"{name}.momentum.{key}"] = torch.zeros(shape, device=like.device)


def train(held: Held, name: str, clean: Tensor, moved: Tensor, labels: Tensor, local: float, rate: float) -> None:
    """One step of stochastic gradient descent, in place, on `gap` and on the cross-entropy of the classes, of weight
    `local`, against labels [B, K] that sum to 1.

    In a process group the gradients are the mean over its processes, so that all hold the same weights.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(clean.device.type, enabled=False):
        module = discriminator(held, name).requires_grad_()
        at_clean, at_moved = module(clean.detach()), module(moved.detach())
        value = gap(at_clean, at_moved).mean()
        value = value + local * sum(F.cross_entropy(at.classes, labels) for at in (at_clean, at_moved))
        slopes = torch.autograd.grad(value, list(module.parameters()), materialize_grads=True)
        for (key, weight), slope in zip(module.named_parameters(), _mean(slopes)):
            momentum = held[f"{name}.momentum.{key}"] * MOMENTUM + slope + DECAY * weight.detach()
            held[f"{name}.momentum.{key}"] = momentum
            held[f"{name}.weights.{key}"] = weight.detach() - rate * momentum


def _mean(slopes: tuple[Tensor, ...]) -> list[Tensor]:
    """Gradients averaged over the process group, if there is one."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(slopes)
    flat = torch.cat([slope.flatten() for slope in slopes])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    return [part.view_as(slope) for part, slope in zip(flat.split([slope.numel() for slope in slopes]), slopes)]
