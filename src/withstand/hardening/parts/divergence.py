"""The Kullback-Leibler divergence between two answers of a classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """KL(softmax(of) || softmax(to)) of every row of logits [B, K]: [B], at least 0, exactly 0 where both are equal.

    Differentiable in both, and computed in float32 or finer.
    """
    log_of, log_to = log_shares(of), log_shares(to)
    return (log_of.exp() * (log_of - log_to)).sum(1)


def log_shares(outputs: Tensor) -> Tensor:
    """The logarithms of softmax of logits [B, K], in float32 or finer."""
    return F.log_softmax(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), 1)
