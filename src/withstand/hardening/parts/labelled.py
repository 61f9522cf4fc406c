"""Losses over batches in which some rows have no label."""

import torch.nn.functional as F
from torch import Tensor


def labelled_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy of the rows of logits [B, K] that have a label (y [B] at least 0); 0 where none has."""
    total = F.cross_entropy(outputs, y, ignore_index=-1, reduction="sum")
    return total / (y >= 0).sum().clamp(min=1)
