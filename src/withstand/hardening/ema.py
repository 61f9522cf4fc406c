"""The exponential moving average of a model's weights, as a model of its own."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from withstand.hardening.loader import Loader

RESTATED = 50
"""Most batches from which the averaged copy's batch normalisation is measured anew; our own choice."""


class Average:
    """An average over the optimiser's steps (Polyak and Juditsky 1992, doi:10.1137/0330046; in adversarial training
    Rebuffi et al. 2021, arXiv:2103.01946).

    decay: weight of the past. In the first steps it is smaller, (1 + step) / (10 + step), so that the random start is
    soon forgotten. The copy is a model to evaluate: other buffers follow the model's own, and batch normalisation has
    statistics of the averaged weights once `restated` has run.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after step `step`, counted from 0."""
        part = 1 - min(self.decay, (1 + step) / (10 + step))
        for mean, now in zip(self.module.parameters(), module.parameters()):
            mean.lerp_(now, part)
        for mean, now in zip(self.module.buffers(), module.buffers()):
            mean.copy_(now)

    def restated(self, loader: Loader) -> nn.Module:
        """The averaged model, the statistics of its batch normalisation measured anew as means over up to `RESTATED`
        batches of the first epoch."""
        norms = [part for part in self.module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
        if not norms:
            return self.module
        momenta, device = [part.momentum for part in norms], next(self.module.parameters()).device
        for part in norms:
            part.reset_running_stats()
            part.momentum = None
            part.train()
        with torch.no_grad():
            for index in range(min(RESTATED, len(loader))):
                self.module(loader.at(0, index).x.to(device))
        for part, momentum in zip(norms, momenta):
            part.momentum = momentum
            part.eval()
        return self.module
