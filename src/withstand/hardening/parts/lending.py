"""A module with other tensors in place of its own, or with its random states put back afterwards."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class _Lent(nn.Module):
    """A module lent to a function, so that the function sees it with other tensors in place of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module], Any]) -> Any:
        return function(self.model)


def inside(model: nn.Module, tensors: dict[str, Tensor], function: Callable[[nn.Module], Any]) -> Any:
    """`function` of the model with `tensors` in place of its parameters and buffers of these names."""
    return functional_call(_Lent(model), {f"model.{name}": tensor for name, tensor in tensors.items()}, (function,))


def randomness(model: nn.Module) -> AbstractContextManager[None]:
    """Within it random states, of the processor and of the model's devices, change as they like; they come back."""
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    return torch.random.fork_rng(list(devices))
