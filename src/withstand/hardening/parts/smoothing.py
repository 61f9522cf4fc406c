"""Cross-entropy against labels of which a share is spread over the other classes."""

import torch.nn.functional as F
from torch import Tensor


def smoothed(outputs: Tensor, y: Tensor, spread: float) -> Tensor:
    """The mean cross-entropy of logits [B, K] against labels that keep 1 - spread of their mass and share the rest
    equally among the other K - 1 classes."""
    classes = outputs.shape[1]
    return F.cross_entropy(outputs, y, label_smoothing=min(1.0, spread * classes / (classes - 1)))
