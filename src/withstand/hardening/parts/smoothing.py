"""Cross-entropy against labels of which a share is spread over the other classes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothed(outputs: Tensor, y: Tensor, spread: float) -> Tensor:
    """The mean cross-entropy of logits [B, K] against labels that keep 1 - spread of their mass and share the rest
    equally among the other K - 1 classes."""
    classes = outputs.shape[1]
    return F.cross_entropy(outputs, y, label_smoothing=min(1.0, spread * classes / (classes - 1)))


def soft_labels(y: Tensor, classes: int, spread: float) -> Tensor:
    """Those labels as shares [B, K] that sum to 1."""
    rest = torch.full((len(y), classes), spread / (classes - 1), device=y.device)
    return rest.scatter(1, y[:, None], 1 - spread)
