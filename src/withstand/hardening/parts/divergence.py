"""The Kullback-Leibler divergence between two answers of a classifier."""

import torch.nn.functional as F
from torch import Tensor


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """KL(softmax(of) || softmax(to)) of every row of logits [B, K]: [B], at least 0, exactly 0 where both are equal.

    Differentiable in both.
    """
    log_of, log_to = F.log_softmax(of.float(), 1), F.log_softmax(to.float(), 1)
    return (log_of.exp() * (log_of - log_to)).sum(1)
