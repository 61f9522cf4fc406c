"""What fits of universal attacks share: the order of an epoch, and the loss that fools the model's own predictions."""

import hashlib

import torch
from torch import Tensor

from withstand.core.shapes import flattened
from withstand.core.universal import Model


def generator(seed: int, epoch: int, name: str) -> torch.Generator:
    """Random numbers of one epoch, the same whether or not the fit was interrupted before it."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def shuffled(count: int, batch: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The rows of every batch of an epoch."""
    return torch.randperm(count, generator=generator(seed, epoch, "order")).split(batch)


def cross_entropy(model: Model, x: Tensor, own: Tensor) -> Tensor:
    """The cross-entropy [B] to the classes [B] that the model named before."""
    return torch.nn.functional.cross_entropy(flattened(model(x)), own, reduction="none")
